"""The checks of the audit: photos, copies, labels, spelling, and files without labels."""
