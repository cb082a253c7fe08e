//! Store on SQLite: ciphertext only, migrations, the audit chain.
