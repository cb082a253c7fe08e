//! Seal and unseal, key providers, secret types, the scrubber.
