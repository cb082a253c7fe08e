//! Every message and every transition, against the files of `vectors/oauth`.

mod cases;
mod device;
mod messages;
mod tokens;
