"""SQL of the access state: holders' persons, labels, reach, consent classes, emergencies (DESIGN 4.3).

Each function is one round trip for any number of rows, inside the caller's transaction; `consent` decides the values.
"""
