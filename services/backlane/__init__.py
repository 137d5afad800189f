"""Backlane's library: trained torch trading models, run over history.

The folders are the stages that bars flow through, each reading only the ones before it:

market -> panel -> indicators -> fuzzy -> features -> inference -> signals -> decisions
-> execution -> portfolio -> risk -> cycle -> metrics -> backtest -> audit

Beside them stands `operations`, the state machine of long-running operations. At the edge:
`sources` reads files, `wire` speaks protobuf, `rpc` serves, `client` is the SDK, `cli` the command
line and `report` the page about a result. `api` is generated. This module imports nothing, so that
each part loads alone.
"""
