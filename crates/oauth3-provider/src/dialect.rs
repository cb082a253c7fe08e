//! How providers talk: where a call names its model, and what a refusal looks like.

use crate::base::is_version;
use crate::call::{self, CallError, CallInfo};
use crate::usage::UsageMeter;
use serde_json::{Value, json};

/// What a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI's, which most others have too.
    OpenAi,
    /// OpenAI's on Azure: the path names a deployment.
    Azure,
    /// Anthropic's Messages API.
    Anthropic,
    /// Google's Gemini API: the path names the model.
    Gemini,
    /// Amazon Bedrock's: the path names the model.
    Bedrock,
    /// Cohere's.
    Cohere,
    /// An HTTP API without models and tokens.
    Plain,
}

/// A refusal in the provider's own shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The value of `content-type`.
    pub content_type: &'static str,
    /// Further header fields, by which some SDKs know errors.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Dialect {
    /// Every dialect, in the order that lists show them.
    pub const ALL: [Self; 7] =
        [Self::OpenAi, Self::Azure, Self::Anthropic, Self::Gemini, Self::Bedrock, Self::Cohere, Self::Plain];

    /// The name in the providers' file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Azure => "azure",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Bedrock => "bedrock",
            Self::Cohere => "cohere",
            Self::Plain => "plain",
        }
    }

    /// Whether [`Dialect::read_call`] needs the body: the model or the limits may be in it. Not so for methods
    /// without one, and for uploads of files (`/files`, `/uploads/…`), which may be large and name no model.
    #[must_use]
    pub fn needs_body(self, method: &str, path: &str) -> bool {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty() && !is_version(segment));
        let uploads = matches!(segments.next(), Some("files" | "upload" | "uploads"));
        self != Self::Plain && !uploads && !matches!(method, "GET" | "HEAD" | "OPTIONS" | "DELETE")
    }

    /// What a call asks for, from its path (with its query, if any), content type and body. The body must not be
    /// compressed; it may be empty, for calls that have none. It is read once and not copied.
    ///
    /// The model is in the path for Gemini (`/models/{model}:generateContent`), Azure
    /// (`/openai/deployments/{deployment}/…`) and Bedrock (`/model/{id}/converse`), else in the body (JSON, or the
    /// form that audio is sent in), or in the query of OpenAI's realtime API.
    ///
    /// # Errors
    /// When the provider could understand the call otherwise: see [`CallError`]. [`Dialect::Plain`] has none.
    pub fn read_call(self, path: &str, content_type: Option<&str>, body: &[u8]) -> Result<CallInfo, CallError> {
        if self == Self::Plain { Ok(CallInfo::default()) } else { call::read(self, path, content_type, body) }
    }

    /// Watches the reply of a call that names a model. For [`Dialect::Plain`], and for a status that is no 2xx,
    /// nothing was used.
    #[must_use]
    pub fn meter(self, content_type: Option<&str>, status: u16) -> UsageMeter {
        if self == Self::Plain { UsageMeter::nothing() } else { UsageMeter::new(content_type, status) }
    }

    /// A refusal of ours with this status, as the provider's SDKs show it well. `code` is one of ours, such as
    /// `budget_spent`; `message` is a sentence for the agent.
    #[must_use]
    pub fn refusal(self, status: u16, code: &str, message: &str) -> Refusal {
        let mut headers = Vec::new();
        let body = match self {
            // https://platform.openai.com/docs/guides/error-codes
            Self::OpenAi | Self::Azure => {
                json!({"error": {"message": message, "type": openai(status), "param": Value::Null, "code": code}})
            }
            // https://docs.anthropic.com/en/api/errors
            Self::Anthropic => json!({"type": "error", "error": {"type": anthropic(status), "message": message}}),
            // https://cloud.google.com/apis/design/errors
            Self::Gemini => json!({"error": {"code": status, "message": message, "status": google(status), "details": [
                {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": code, "domain": "oauth3"}
            ]}}),
            // https://docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html
            Self::Bedrock => {
                headers.push(("x-amzn-errortype", amazon(status)));
                json!({"message": message})
            }
            // https://docs.cohere.com/reference/errors
            Self::Cohere => json!({"message": message}),
            Self::Plain => json!({"error": code, "error_description": message}),
        };
        Refusal { content_type: "application/json", headers, body: body.to_string().into_bytes() }
    }
}

fn openai(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

fn anthropic(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        503 | 529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

fn google(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        502 | 503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        500.. => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    }
}

fn amazon(status: u16) -> &'static str {
    match status {
        401 | 403 => "AccessDeniedException",
        404 => "ResourceNotFoundException",
        429 => "ThrottlingException",
        503 => "ServiceUnavailableException",
        408 | 504 => "ModelTimeoutException",
        500.. => "InternalServerException",
        _ => "ValidationException",
    }
}
