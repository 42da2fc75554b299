"""PostgreSQL storage of the record: rows, histories, index, audit, jobs, inbox, people. All SQL of the record is here."""
