"""What the audit checks: photos, copies, labels, spelling, and files without labels."""
