"""What a result can be asked: does it look ahead, is it warm, is it repeated, why was it so.

Reads: a request, bars and a predictor, or what a finished run left behind.
Produces: stamps that a report can carry, comparisons, and the story of one bar.
Never: reads files, decides anything, or has a formula of its own.
"""
