//! Approval channels and their shared wording.
//!
//! [`card`] says what an owner is shown, for every channel alike; [`Telegram`] shows it in a chat and
//! takes verdicts from there. A channel holds an `OwnerPort` and decides nothing by itself: who may
//! decide is checked here, what a verdict means is the broker's.

mod account;
pub mod card;
mod telegram;
mod visible;

pub use account::{ProviderWords, SignIn, SignIns, shown as shown_account};
pub use card::{Card, render_text};
pub use telegram::{Telegram, TelegramConfig};
