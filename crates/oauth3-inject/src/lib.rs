//! The data plane: intercept, match, substitute, dial, scrub.
