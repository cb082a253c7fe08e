//! A sign-in by code on another device (RFC 8628).

use crate::aws;
use crate::fields::Fields;
use crate::token::success;
use crate::{Client, Exchange, Failure, Reply, Sensitive, TokenSet, UserCode, VerificationAddress};
use oauth3_core::Timestamp;
use oauth3_provider::Protocol;
use std::time::Duration;

const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Between two polls where the server says nothing (RFC 8628 §3.2), in seconds.
const DEFAULT_INTERVAL_SECONDS: u64 = 5;
/// Shortest and longest time between two polls that a server may set, in seconds.
const INTERVAL_SECONDS: std::ops::RangeInclusive<u64> = 1..=120;
/// What `slow_down` adds (RFC 8628 §3.5), in seconds.
const SLOW_DOWN_SECONDS: u64 = 5;
/// Life of a code where the server does not say, and the longest one, in seconds.
const DEFAULT_EXPIRES_SECONDS: i64 = 900;
const MAX_EXPIRES_SECONDS: i64 = 3600;
/// Longest time between two polls after faults, in seconds, unless the server asks for more by itself.
const MAX_BACK_OFF_SECONDS: u64 = 60;
/// Longest `retry-after` that is followed, in seconds.
const MAX_RETRY_AFTER_SECONDS: u64 = 300;
/// Longest device code, in bytes.
const MAX_DEVICE_CODE_BYTES: usize = 8 * 1024;

/// What the owner is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The code.
    pub user_code: UserCode,
    /// Where to enter it.
    pub verification_uri: VerificationAddress,
    /// The same with the code in it, for a QR code; not every server has it.
    pub verification_uri_complete: Option<VerificationAddress>,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// What to do next.
#[derive(Debug)]
pub enum DeviceStep {
    /// Ask again at this time.
    Wait(Timestamp),
    /// Send this, and hand over its reply or that there was none. Until then there is nothing else to be sent.
    Send(Exchange),
    /// Signed in.
    Done(TokenSet),
    /// It came to nothing: [`Failure::Denied`], [`Failure::Expired`], or something went wrong.
    Ended(Failure),
}

/// One sign-in by code.
#[derive(Debug)]
pub struct DeviceGrant {
    device_code: Sensitive,
    expires_at: Timestamp,
    interval: Duration,
    next_poll_at: Timestamp,
    /// Polls in a row without an answer from the server itself.
    faults: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Polling,
    Over,
}

impl DeviceGrant {
    /// The first request (RFC 8628 §3.1).
    ///
    /// # Errors
    /// When the server has no device endpoint, or AWS's client is not registered.
    pub fn start(client: &Client, scopes: &[String]) -> Result<Exchange, Failure> {
        let url = client.endpoint(&client.server.device, "device endpoint")?;
        if client.server.protocol == Protocol::AwsSso {
            let start_url = client.endpoint(&client.server.start_url, "start URL")?;
            return aws::request(client, url, &[("startUrl", start_url.as_str())]);
        }
        let scope = scopes.join(" ");
        let mut fields = Vec::new();
        if !scope.is_empty() {
            fields.push(("scope", scope.as_str()));
        }
        fields.extend(client.audience.as_deref().map(|audience| ("audience", audience)));
        if client.server.secretless_device {
            fields.push(("client_id", &client.id));
            return Ok(Exchange::form(url, &fields));
        }
        Ok(client.form(url, &fields))
    }

    /// Reads the reply to it (RFC 8628 §3.2): the sign-in, and what the owner is shown.
    ///
    /// # Errors
    /// When it is a refusal, or anything in it is missing, out of bounds, or leads elsewhere.
    pub fn begin(client: &Client, reply: &Reply<'_>, now: Timestamp) -> Result<(Self, Prompt), Failure> {
        let mut fields = success(client, reply)?;
        let device_code = fields.take("device_code").filter(|code| code.expose().len() <= MAX_DEVICE_CODE_BYTES);
        let user_code = fields.text("user_code").and_then(UserCode::parse).ok_or(Failure::Field("user_code"))?;
        let address = |text: &str| VerificationAddress::parse(&client.server, text);
        // Google still has the name of a draft.
        let uri = fields.text("verification_uri").or_else(|| fields.text("verification_url"));
        let verification_uri = address(uri.ok_or(Failure::Field("verification_uri"))?)?;
        let complete = fields.text("verification_uri_complete").or_else(|| fields.text("verification_url_complete"));
        let interval = fields.number("interval").map_err(|()| Failure::Field("interval"))?;
        let interval = interval.map_or(DEFAULT_INTERVAL_SECONDS, |seconds| u64::try_from(seconds).unwrap_or(0));
        let expires = fields.number("expires_in").map_err(|()| Failure::Field("expires_in"))?;
        let expires = expires.unwrap_or(DEFAULT_EXPIRES_SECONDS).min(MAX_EXPIRES_SECONDS);
        let interval = bounded(interval);
        let prompt = Prompt {
            user_code,
            verification_uri,
            verification_uri_complete: complete.map(address).transpose()?,
            expires_at: now.plus(Duration::from_secs(u64::try_from(expires).unwrap_or(0))),
        };
        let device_code = device_code.ok_or(Failure::Field("device_code"))?;
        Ok((Self::resume(device_code, interval, prompt.expires_at, now), prompt))
    }

    /// Goes on with one that was begun before a restart.
    #[must_use]
    pub fn resume(device_code: Sensitive, interval: Duration, expires_at: Timestamp, now: Timestamp) -> Self {
        let interval = bounded(interval.as_secs());
        Self { device_code, expires_at, interval, next_poll_at: now.plus(interval), faults: 0, state: State::Waiting }
    }

    /// What [`DeviceGrant::resume`] takes: the device code, to be sealed, and the time between two polls.
    #[must_use]
    pub const fn kept(&self) -> (&Sensitive, Duration) {
        (&self.device_code, self.interval)
    }

    /// What to do now. Nothing more is sent once it has ended, nor before the server wants to be asked.
    pub fn next(&mut self, client: &Client, now: Timestamp) -> DeviceStep {
        match self.state {
            State::Over => DeviceStep::Ended(Failure::Over),
            _ if now >= self.expires_at => self.end(Failure::Expired),
            State::Waiting if now >= self.next_poll_at => match self.poll(client) {
                Ok(exchange) => {
                    self.state = State::Polling;
                    DeviceStep::Send(exchange)
                }
                Err(why) => self.end(why),
            },
            State::Waiting => DeviceStep::Wait(self.next_poll_at.min(self.expires_at)),
            State::Polling => DeviceStep::Wait(self.expires_at),
        }
    }

    /// The reply to what was sent. A token that comes late is still taken.
    pub fn on_reply(&mut self, client: &Client, reply: &Reply<'_>, now: Timestamp) -> DeviceStep {
        if self.state != State::Polling {
            return DeviceStep::Ended(Failure::Over);
        }
        let mut fields = match Fields::read(reply, client.server.protocol) {
            Ok(fields) => fields,
            Err(Failure::Unavailable(_)) => return self.back_off(reply.retry_after, now),
            Err(why) => return self.end(why),
        };
        let Some(code) = fields.error() else {
            return match reply.status {
                200..=299 => match TokenSet::take(&mut fields, now) {
                    Ok(tokens) => {
                        self.state = State::Over;
                        DeviceStep::Done(tokens)
                    }
                    Err(why) => self.end(why),
                },
                429 | 500..=599 => self.back_off(reply.retry_after, now),
                status => self.end(Failure::NotOauth(status)),
            };
        };
        match code.as_str() {
            "authorization_pending" => self.wait(self.interval, now),
            "slow_down" => {
                let asked = fields.number("interval").ok().flatten().and_then(|seconds| u64::try_from(seconds).ok());
                let slower = self.interval.as_secs().saturating_add(SLOW_DOWN_SECONDS);
                self.interval = bounded(asked.unwrap_or(0).max(slower));
                self.wait(self.interval, now)
            }
            "access_denied" | "authorization_declined" => self.end(Failure::Denied),
            "expired_token" | "token_expired" | "code_expired" => self.end(Failure::Expired),
            _ if code.is_transient() => self.back_off(reply.retry_after, now),
            _ => self.end(Failure::Refused(code)),
        }
    }

    /// There was no reply: no connection, or it broke. The next poll comes later (RFC 8628 §3.5).
    pub fn on_fault(&mut self, now: Timestamp) -> DeviceStep {
        match self.state {
            State::Polling => self.back_off(None, now),
            _ => DeviceStep::Ended(Failure::Over),
        }
    }

    fn poll(&self, client: &Client) -> Result<Exchange, Failure> {
        let url = client.endpoint(&client.server.token, "token endpoint")?;
        let device_code = self.device_code.expose();
        if client.server.protocol == Protocol::AwsSso {
            return aws::request(client, url, &[("grantType", GRANT), ("deviceCode", device_code)]);
        }
        Ok(client.form(url, &[("grant_type", GRANT), ("device_code", device_code)]))
    }

    /// The server itself answered: what went wrong on the way before is forgotten.
    fn wait(&mut self, time: Duration, now: Timestamp) -> DeviceStep {
        self.faults = 0;
        self.again(time, now)
    }

    fn back_off(&mut self, retry_after: Option<Duration>, now: Timestamp) -> DeviceStep {
        self.faults = self.faults.saturating_add(1);
        let doubled = self.interval.as_secs().saturating_mul(1_u64.checked_shl(self.faults).unwrap_or(u64::MAX));
        let doubled = doubled.min(MAX_BACK_OFF_SECONDS).max(self.interval.as_secs());
        let asked = retry_after.map_or(0, |time| time.as_secs().min(MAX_RETRY_AFTER_SECONDS));
        self.again(Duration::from_secs(doubled.max(asked)), now)
    }

    fn again(&mut self, time: Duration, now: Timestamp) -> DeviceStep {
        if now >= self.expires_at {
            return self.end(Failure::Expired);
        }
        self.state = State::Waiting;
        self.next_poll_at = now.plus(time);
        DeviceStep::Wait(self.next_poll_at.min(self.expires_at))
    }

    fn end(&mut self, why: Failure) -> DeviceStep {
        self.state = State::Over;
        DeviceStep::Ended(why)
    }
}

fn bounded(seconds: u64) -> Duration {
    Duration::from_secs(seconds.clamp(*INTERVAL_SECONDS.start(), *INTERVAL_SECONDS.end()))
}
