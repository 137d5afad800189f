"""Where bars come from: files of any vendor, the catalog under the home directory, a seed.

Reads CSV and Parquet files; produces BarSeries that passed every check of `backlane.market`.
Never repairs, sorts or fills anything: bars are whole, or they are refused.
"""
