"""Bounds on what one search may ask, so that no query takes more than its share (issue 4, section 11)."""

PAGE_SIZE = 20
"""Matches on a page where `_count` is absent."""
LARGEST_PAGE = 1000
"""`_count` above this is answered with pages of this size, as R4 allows."""
CRITERIA = 100
"""Parameters in one query."""
CHAINS = 20
"""Chains and `_has` in one query: each is a join that PostgreSQL plans."""
OR_VALUES = 1000
"""Comma separated values of one parameter."""
VALUE_LENGTH = 4096
"""Characters of one value."""
CONTAINS_LENGTH = 256
"""Characters of one `:contains` value."""
TERMS = 20_000
"""Index terms of one parameter (values times possible target types)."""
SORT_KEYS = 5
INCLUDES = 20
"""`_include` and `_revinclude` parameters in one query."""
REVERSE_INCLUDES = 40
"""Reference parameters by which `_revinclude` looks for rows, those of `Type:*` counted one by one."""
INCLUDED_ROWS = 10_000
"""Included resources on one page; what is beyond is cut off, and the answer says so."""
INCLUDE_STEPS = 30
"""Statements that follow references for one page, beyond the first."""
INCLUDE_TERMS = 2000
"""References that one of these looks for: the index takes more than twice the time for twice as many."""
COUNTED = 1000
"""Totals are exact below this number, unless `_total=accurate` or `_summary=count` asks for more."""
EXPANDED_CODES = 10_000
"""Codes that a value set, or the codes above or below a code, may come to."""
TERMINOLOGY_READS = 50
"""Value sets and code systems that one search reads."""
VALUE_SET_DEPTH = 10
"""Value sets within value sets."""
OPENED = 20_000
"""Bodies opened by one request for re-checks or for sorting by text."""
CHAINED_KEYS = 2000
"""Targets of a chain that are looked up as index terms; above this the chain is walked row by row."""
RESOLVED_KEYS = 10_000
"""Targets of a chain whose criterion had to be re-checked in the bodies."""
PREFIX = 16
"""Longest prefix of a string that has an index term of its own."""
LINK_AGE_S = 86_400
"""A page link older than this is expired."""
CHAIN_DEPTH = 10
"""Steps of one chain, those of `_has` among them."""
CHAIN_LINKS = 150
"""Joins that the chains of one query come to, each target type of a reference without a type counted."""
FILTER_LENGTH = 8192
"""Characters of one `_filter`."""
FILTER_DEPTH = 20
"""Brackets within each other in a `_filter`."""
FILTER_READINGS = 2000
"""Comparisons of a `_filter`, each counted for each type that its path leads to."""
LISTED = 100_000
"""Ids of a result that are listed for its pages; a larger one is paged by the place in its order."""
LISTED_IN_LINK = 256
"""Ids that a page link holds itself; more are stored."""
STORED_IDS = 50_000_000
"""Ids in all stored lists (8 bytes each); the oldest lists go first."""
