//! Approval channels and their shared wording.
