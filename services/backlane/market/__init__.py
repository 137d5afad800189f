"""The market as it was: bars of one instrument, their timeframe, and what is wrong with them.

Reads nothing but arrays; produces BarSeries, their digest and a QualityReport.
Never repairs a bar, never opens a file.
"""
