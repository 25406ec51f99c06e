"""One module a revision. They only add: the release before must go on working on the new schema."""
