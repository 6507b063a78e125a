"""`dfm view`: sampled scenes in the browser."""
