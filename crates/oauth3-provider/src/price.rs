//! What models cost: an embedded table, and the owner's own over it.

use crate::usage::Usage;
use oauth3_core::MicroUsd;
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::{Table, Value};

const EMBEDDED: &str = include_str!("../prices.toml");
/// The table that says which provider has the prices of which other one.
const SAME: &str = "same";
/// Highest price, in USD for a million tokens.
const MAX_PRICE: f64 = 1e6;
/// Prices are for so many tokens.
const TOKENS_OF_PRICE: u128 = 1_000_000;
/// Micro-USD in a USD.
const MICRO: f64 = 1e6;

/// Why a table of prices was refused. Fit for the owner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// No TOML.
    #[error("prices: {0}")]
    Toml(String),
    /// Something is wrong with a model.
    #[error("prices: [{provider}] {model}: {why}")]
    Model {
        /// The provider.
        provider: String,
        /// The model or pattern.
        model: String,
        /// What is wrong, with the key.
        why: String,
    },
}

/// What a model costs, each in micro-USD for a million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    input: u64,
    output: u64,
    cached: u64,
    cache_write: u64,
    cache_write_hour: u64,
    /// From so many input tokens on, other prices hold for the whole call.
    long: Option<Long>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Long {
    above: u64,
    input: u64,
    output: u64,
    cached: u64,
}

impl Price {
    /// What a call cost, rounded up to a whole micro-USD; the most that the type holds where it would be more.
    #[must_use]
    pub fn cost(&self, usage: &Usage) -> MicroUsd {
        let long = self.long.filter(|long| usage.tokens_in > long.above);
        let (input, output, cached) =
            long.map_or((self.input, self.output, self.cached), |long| (long.input, long.output, long.cached));
        // What is written to a cache costs more in proportion to the input.
        let scaled = |price: u64| match long {
            Some(long) if self.input > 0 => {
                let scaled = u128::from(price) * u128::from(long.input);
                u64::try_from(scaled.div_ceil(u128::from(self.input))).unwrap_or(u64::MAX)
            }
            _ => price,
        };
        let hour = usage.cache_written_hour.min(usage.cache_written);
        let rest = usage.tokens_in.saturating_sub(usage.cached_in).saturating_sub(usage.cache_written);
        let parts = [
            (rest, input),
            (usage.tokens_out, output),
            (usage.cached_in, cached),
            (usage.cache_written - hour, scaled(self.cache_write)),
            (hour, scaled(self.cache_write_hour)),
        ];
        let sum = parts.iter().fold(0_u128, |sum, (tokens, price)| {
            sum.saturating_add(u128::from(*tokens).saturating_mul(u128::from(*price)))
        });
        MicroUsd(u64::try_from(sum.div_ceil(TOKENS_OF_PRICE)).unwrap_or(u64::MAX))
    }
}

/// Prices by provider and model.
#[derive(Debug, Clone)]
pub struct Prices {
    tables: Table,
    same: BTreeMap<String, String>,
    providers: BTreeMap<String, Models>,
}

#[derive(Debug, Clone, Default)]
struct Models {
    exact: BTreeMap<String, Price>,
    /// Beginnings of names.
    prefixes: BTreeMap<String, Price>,
}

impl Prices {
    /// The prices that come with oauth3.
    ///
    /// # Errors
    /// Never in a build whose tests passed.
    pub fn embedded() -> Result<Self, PriceError> {
        Self::of(tables(EMBEDDED)?)
    }

    /// Lays an owner's table over it: each model that is written replaces that model.
    ///
    /// # Errors
    /// When it is no TOML, or a price has an unknown key or is no amount.
    pub fn overridden(mut self, text: &str) -> Result<Self, PriceError> {
        for (name, value) in tables(text)? {
            match (self.tables.get_mut(&name), value) {
                (Some(Value::Table(known)), Value::Table(over)) => known.extend(over),
                (_, value) => {
                    self.tables.insert(name, value);
                }
            }
        }
        Self::of(self.tables)
    }

    /// The price of a model: by its exact name, else by the name without its date, else by the longest pattern
    /// `beginning*` that fits.
    #[must_use]
    pub fn price(&self, provider: &str, model: &str) -> Option<Price> {
        let own = self.providers.get(provider).and_then(|models| models.price(model));
        own.or_else(|| self.providers.get(self.same.get(provider)?)?.price(model))
    }

    /// The providers that have prices.
    pub fn providers(&self) -> impl Iterator<Item = &str> {
        self.providers.keys().map(String::as_str)
    }

    fn of(tables: Table) -> Result<Self, PriceError> {
        let mut same = BTreeMap::new();
        let mut providers = BTreeMap::new();
        for (provider, value) in &tables {
            let wrong = |model: &str, why: &str| PriceError::Model {
                provider: provider.clone(),
                model: model.to_owned(),
                why: why.to_owned(),
            };
            let table = value.as_table().ok_or_else(|| wrong("", "a table of models"))?;
            let mut models = Models::default();
            for (model, value) in table {
                if provider == SAME {
                    let other = value.as_str().ok_or_else(|| wrong(model, "the name of another provider"))?;
                    same.insert(model.clone(), other.to_owned());
                    continue;
                }
                let entry = Entry::deserialize(value.clone()).map_err(|why| wrong(model, why.message()))?;
                let price = entry.into_price().map_err(|why| wrong(model, why))?;
                match model.strip_suffix('*') {
                    Some(prefix) => models.prefixes.insert(prefix.to_owned(), price),
                    None => models.exact.insert(model.clone(), price),
                };
            }
            if provider != SAME {
                providers.insert(provider.clone(), models);
            }
        }
        Ok(Self { tables, same, providers })
    }
}

impl Models {
    fn price(&self, model: &str) -> Option<Price> {
        let longest = || {
            let fits = self.prefixes.iter().filter(|(prefix, _)| model.starts_with(prefix.as_str()));
            fits.max_by_key(|(prefix, _)| prefix.len()).map(|(_, price)| *price)
        };
        let exact = self.exact.get(model).or_else(|| self.exact.get(undated(model)));
        exact.copied().or_else(longest)
    }
}

/// The name without the date at its end: `-2024-08-06`, `-20250929`, `@20250929`.
fn undated(model: &str) -> &str {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let compact = model.rsplit_once(['-', '@']).filter(|(_, date)| date.len() == 8 && digits(date));
    let dashed = || {
        let (rest, _) = model.rsplit_once('-').filter(|(_, day)| day.len() == 2 && digits(day))?;
        let (rest, _) = rest.rsplit_once('-').filter(|(_, month)| month.len() == 2 && digits(month))?;
        rest.rsplit_once('-').filter(|(_, year)| year.len() == 4 && digits(year))
    };
    compact.or_else(dashed).map_or(model, |(name, _)| name)
}

fn tables(text: &str) -> Result<Table, PriceError> {
    text.parse().map_err(|why: toml::de::Error| PriceError::Toml(why.to_string().trim_end().to_owned()))
}

/// A price as it is written, in USD for a million tokens.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    r#in: f64,
    #[serde(default)]
    out: f64,
    /// As `in` unless said.
    cached: Option<f64>,
    /// As `in` unless said.
    write: Option<f64>,
    /// Twice `in` where `write` is said, as Anthropic has it; else as `in`.
    write_hour: Option<f64>,
    long: Option<LongEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LongEntry {
    /// The prices hold for calls of more input tokens than this.
    above: u64,
    r#in: f64,
    out: f64,
    cached: Option<f64>,
}

impl Entry {
    fn into_price(self) -> Result<Price, &'static str> {
        let hour = self.write_hour.unwrap_or_else(|| self.write.map_or(self.r#in, |_| self.r#in * 2.0));
        Ok(Price {
            input: micro(self.r#in)?,
            output: micro(self.out)?,
            cached: micro(self.cached.unwrap_or(self.r#in))?,
            cache_write: micro(self.write.unwrap_or(self.r#in))?,
            cache_write_hour: micro(hour)?,
            long: self.long.map(LongEntry::into_long).transpose()?,
        })
    }
}

impl LongEntry {
    fn into_long(self) -> Result<Long, &'static str> {
        let (input, output) = (micro(self.r#in)?, micro(self.out)?);
        Ok(Long { above: self.above, input, output, cached: micro(self.cached.unwrap_or(self.r#in))? })
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
fn micro(usd: f64) -> Result<u64, &'static str> {
    if (0.0..=MAX_PRICE).contains(&usd) {
        Ok((usd * MICRO).round() as u64)
    } else {
        Err("a price is an amount of USD for a million tokens, from 0 to 1000000")
    }
}
