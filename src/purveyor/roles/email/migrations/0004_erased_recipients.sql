-- Which addresses were erased, by their SHA-256: an event from before that comes only now must not be mailed.
create table email.erased_recipients (
    digest text primary key,
    erased_at timestamptz not null
);
