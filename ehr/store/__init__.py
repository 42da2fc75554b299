"""PostgreSQL storage of the record: rows, histories, index, audit, jobs, inbox, people; all SQL of it."""
