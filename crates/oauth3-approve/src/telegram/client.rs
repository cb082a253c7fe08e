//! The Bot API methods that are used, over the HTTP port.
//!
//! The token is part of every address. It is put there right before a request is handed to the port,
//! which prints neither paths nor queries, and no error or log here holds an address.

use super::error::TelegramError;
use super::multipart::Multipart;
use super::wire::{Envelope, Me, Sent, Update, UpdateId};
use frankenstein::ParseMode;
use frankenstein::methods::{
    AnswerCallbackQueryParams, DeleteMessageParams, EditMessageReplyMarkupParams, EditMessageTextParams,
    GetUpdatesParams, SendMessageParams,
};
use frankenstein::types::{
    AllowedUpdate, ChatId, InlineKeyboardButton, InlineKeyboardMarkup, LinkPreviewOptions, ReplyMarkup,
};
use oauth3_core::{Credential, HttpPort, HttpRequest};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long the server may hold a poll, in seconds. Short, so that an outage is seen soon: a poll that gets
/// no answer is given up after [`POLL_TIMEOUT`], below the 12 s in which `/health` must say so.
const LONG_POLL_SECONDS: u32 = 7;
/// Longest that a poll may take.
const POLL_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest that any other call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest that sending a document may take.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Most updates of one poll; with [`MAX_REPLY_BYTES`] even updates full of text fit.
const MAX_UPDATES: u32 = 25;
/// Largest reply, in bytes.
const MAX_REPLY_BYTES: usize = 4 << 20;

/// Speaks to one Bot API server as one bot.
pub(crate) struct Client {
    http: Arc<dyn HttpPort>,
    api_url: String,
    token: Credential,
}

/// One update with its number; the rest is `None` when it could not be read.
pub(crate) struct Numbered {
    pub(crate) id: i64,
    pub(crate) update: Option<Update>,
}

/// A document to be sent.
pub(crate) struct Document<'a> {
    pub(crate) file_name: &'a str,
    pub(crate) caption: &'a str,
    pub(crate) bytes: &'a [u8],
}

impl Client {
    pub(crate) fn new(http: Arc<dyn HttpPort>, api_url: &str, token: Credential) -> Self {
        Self { http, api_url: api_url.trim_end_matches('/').to_owned(), token }
    }

    pub(crate) async fn get_me(&self) -> Result<Me, TelegramError> {
        let reply = self.json("getMe", &serde_json::Map::new(), CALL_TIMEOUT).await?;
        Ok(reply.read().unwrap_or_default())
    }

    /// Updates from `offset` on. With `wait`, the server may hold the call for [`LONG_POLL_SECONDS`] until there is one.
    pub(crate) async fn get_updates(&self, offset: Option<i64>, wait: bool) -> Result<Vec<Numbered>, TelegramError> {
        let params = GetUpdatesParams {
            offset,
            limit: Some(MAX_UPDATES),
            timeout: Some(if wait { LONG_POLL_SECONDS } else { 0 }),
            allowed_updates: Some(vec![AllowedUpdate::Message, AllowedUpdate::CallbackQuery]),
        };
        let reply = self.json("getUpdates", &params, POLL_TIMEOUT).await?;
        let items: Vec<&RawValue> = reply.read().ok_or(TelegramError::Malformed(reply.status))?;
        let mut updates = Vec::with_capacity(items.len());
        for item in items {
            match serde_json::from_str::<UpdateId>(item.get()) {
                Ok(UpdateId { update_id: id }) => {
                    updates.push(Numbered { id, update: serde_json::from_str(item.get()).ok() });
                }
                Err(_) => tracing::warn!("telegram: an update without a number was passed over"),
            }
        }
        Ok(updates)
    }

    /// Sends a message and returns its id.
    pub(crate) async fn send(
        &self,
        chat_id: i64,
        html: &str,
        reply_markup: Option<ReplyMarkup>,
    ) -> Result<i32, TelegramError> {
        let mut params = SendMessageParams::builder().chat_id(ChatId::Integer(chat_id)).text(html).build();
        params.parse_mode = Some(ParseMode::Html);
        params.link_preview_options = Some(LinkPreviewOptions::DISABLED);
        params.reply_markup = reply_markup;
        let reply = self.json("sendMessage", &params, CALL_TIMEOUT).await?;
        reply.read::<Sent>().map(|sent| sent.message_id).ok_or(TelegramError::Malformed(reply.status))
    }

    /// Edits a message; one that says the same already is a success.
    pub(crate) async fn edit(
        &self,
        chat_id: i64,
        message_id: i32,
        html: &str,
        buttons: InlineKeyboardMarkup,
    ) -> Result<(), TelegramError> {
        let mut params = EditMessageTextParams::builder().build();
        params.chat_id = Some(ChatId::Integer(chat_id));
        params.message_id = Some(message_id);
        params.text = Some(html.to_owned());
        params.parse_mode = Some(ParseMode::Html);
        params.link_preview_options = Some(LinkPreviewOptions::DISABLED);
        params.reply_markup = Some(buttons);
        self.json("editMessageText", &params, CALL_TIMEOUT).await.map(drop)
    }

    /// Takes the buttons off a message.
    pub(crate) async fn strip_buttons(&self, chat_id: i64, message_id: i32) -> Result<(), TelegramError> {
        let mut params = EditMessageReplyMarkupParams::builder().build();
        params.chat_id = Some(ChatId::Integer(chat_id));
        params.message_id = Some(message_id);
        params.reply_markup = Some(keyboard(Vec::new()));
        self.json("editMessageReplyMarkup", &params, CALL_TIMEOUT).await.map(drop)
    }

    /// Answers a tap; without text it only ends the button's waiting sign.
    pub(crate) async fn answer(&self, callback_id: &str, text: Option<&str>) -> Result<(), TelegramError> {
        let mut params = AnswerCallbackQueryParams::builder().callback_query_id(callback_id).build();
        params.text = text.map(|text| text.chars().take(180).collect());
        self.json("answerCallbackQuery", &params, CALL_TIMEOUT).await.map(drop)
    }

    /// Deletes a message; one that is gone already is a success.
    pub(crate) async fn delete(&self, chat_id: i64, message_id: i32) -> Result<(), TelegramError> {
        let params = DeleteMessageParams { chat_id: ChatId::Integer(chat_id), message_id };
        match self.json("deleteMessage", &params, CALL_TIMEOUT).await {
            Ok(_) | Err(TelegramError::MessageGone) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sends a document with exactly these bytes and returns its message's id.
    pub(crate) async fn send_document(&self, chat_id: i64, document: &Document<'_>) -> Result<i32, TelegramError> {
        let form = Multipart::new(document.bytes)
            .ok_or(TelegramError::NoRandomness)?
            .field("chat_id", &chat_id.to_string())
            .field("caption", document.caption)
            .file("document", document.file_name, document.bytes);
        let (content_type, body) = form.finish();
        let reply = self.exchange("sendDocument", content_type, body, UPLOAD_TIMEOUT).await?;
        reply.read::<Sent>().map(|sent| sent.message_id).ok_or(TelegramError::Malformed(reply.status))
    }

    async fn json<P: Serialize>(&self, method: &str, params: &P, timeout: Duration) -> Result<Reply, TelegramError> {
        let body = serde_json::to_vec(params).map_err(|_| TelegramError::Refused(0))?;
        self.exchange(method, "application/json".to_owned(), body, timeout).await
    }

    async fn exchange(
        &self,
        method: &str,
        content_type: String,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<Reply, TelegramError> {
        let request = HttpRequest {
            method: "POST",
            url: format!("{}/bot{}/{method}", self.api_url, self.token.reveal()),
            headers: vec![("content-type", content_type.into())],
            body: body.into(),
            timeout,
            max_reply_bytes: MAX_REPLY_BYTES,
            owner_configured: true,
        };
        let response = self.http.send(request).await.map_err(TelegramError::Network)?;
        let reply = Reply { status: response.status, body: response.body };
        let refusal = match serde_json::from_slice::<Envelope<'_>>(&reply.body) {
            Ok(envelope) if envelope.ok => None,
            Ok(envelope) => {
                let code = envelope.error_code.unwrap_or(reply.status);
                let retry_after = envelope.parameters.and_then(|p| p.retry_after).or(response.retry_after);
                let description = envelope.description.unwrap_or_default();
                if description.contains("message is not modified") {
                    None
                } else {
                    Some(TelegramError::from_refusal(code, &description, retry_after))
                }
            }
            // Gateways in front of the server answer without the frame.
            Err(_) if reply.status == 429 || reply.status >= 500 => {
                Some(TelegramError::from_refusal(reply.status, "", response.retry_after))
            }
            Err(_) => Some(TelegramError::Malformed(reply.status)),
        };
        refusal.map_or(Ok(reply), Err)
    }
}

/// Buttons in rows; no rows, no buttons.
pub(crate) fn keyboard(rows: Vec<Vec<InlineKeyboardButton>>) -> InlineKeyboardMarkup {
    InlineKeyboardMarkup::builder().inline_keyboard(rows).build()
}

/// A good reply. Its bytes may hold a typed value, so they are wiped when dropped.
struct Reply {
    status: u16,
    body: Zeroizing<Vec<u8>>,
}

impl Reply {
    /// The result, when it has the form that is wanted.
    fn read<'a, T: Deserialize<'a>>(&'a self) -> Option<T> {
        let envelope: Envelope<'a> = serde_json::from_slice(&self.body).ok()?;
        serde_json::from_str(envelope.result?.get()).ok()
    }
}
