//! Request and reply bodies of the two protocols. Does no networking.
//!
//! - Ollama: `POST /api/chat` (`ollama/ollama`, `docs/api.md`, `server/routes.go`).
//! - OpenAI: `POST /chat/completions`, as in OpenAI, vLLM and the llama.cpp server.

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use super::refused::{error_of, names, shortened};
use crate::stages::stories::Generate;
use crate::stages::stories::writing::End;

/// The protocol that a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Ollama,
    OpenAi,
}

/// Seeds are sent with their low 31 bits: llama.cpp has 32 bits, where all ones mean a random seed, and some servers
/// read a signed number.
pub const SEED_BITS: u64 = (1 << 31) - 1;

/// A server's special requirements on requests, as its refusals state them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// The limit on tokens is called `max_completion_tokens`, as OpenAI's newer models require.
    completion_tokens: bool,
    /// These parameters are omitted: the server rejects them even with values that have no effect.
    no_temperature: bool,
    no_top_p: bool,
    pub no_seed: bool,
}

impl Manner {
    /// The requirements after a refusal in these words; `None` if nothing can be changed without changing the texts.
    pub fn after(self, words: &str, params: &Generate) -> Option<Manner> {
        let mut manner = self;
        manner.completion_tokens |= words.contains("max_completion_tokens");
        // 1 is the default of both parameters; a seed is only best effort at any server.
        manner.no_temperature |= names(words, "temperature") && params.temperature == 1.0;
        manner.no_top_p |= names(words, "top_p") && params.top_p == 1.0;
        manner.no_seed |= names(words, "seed");
        (manner != self).then_some(manner)
    }
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub prompt: String,
    /// At most [`SEED_BITS`].
    pub seed: u64,
}

/// The reply to one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub text: String,
    pub end: End,
    /// The number of tokens of the text, if the server reports it.
    pub tokens: Option<usize>,
    /// The most likely first tokens, each with its log-probability, if they were requested and the server returns
    /// them.
    pub first: Option<Vec<(String, f64)>>,
}

impl Protocol {
    /// The path of requests, relative to the source's `url`.
    pub fn path(self) -> &'static str {
        match self {
            Protocol::Ollama => "/api/chat",
            Protocol::OpenAi => "/chat/completions",
        }
    }

    /// The body of a request to `model`.
    pub fn body(self, model: &str, params: &Generate, question: &Question, manner: Manner) -> Value {
        let mut messages = Vec::new();
        if !params.system.is_empty() {
            messages.push(json!({ "role": "system", "content": params.system }));
        }
        messages.push(json!({ "role": "user", "content": question.prompt }));
        match self {
            // Ollama lets reasoning models reason unless told not to, and accepts `false` for any model. A `top_k` of
            // 0 means no limit there, and must be sent: its default is 40.
            Protocol::Ollama => json!({
                "model": model,
                "messages": messages,
                "stream": false,
                "think": false,
                "options": {
                    "temperature": params.temperature,
                    "top_p": params.top_p,
                    "top_k": params.top_k,
                    "num_predict": params.max_new_tokens,
                    "seed": question.seed,
                },
            }),
            // OpenAI rejects unknown parameters, and `top_k` is unknown to it.
            Protocol::OpenAi => {
                let bound = if manner.completion_tokens { "max_completion_tokens" } else { "max_tokens" };
                let mut body = json!({ "model": model, "messages": messages });
                body[bound] = params.max_new_tokens.into();
                if !manner.no_seed {
                    body["seed"] = question.seed.into();
                }
                if !manner.no_temperature {
                    body["temperature"] = params.temperature.into();
                }
                // 1 has no effect, and some servers accept only one of the two parameters.
                if !manner.no_top_p && params.top_p != 1.0 {
                    body["top_p"] = params.top_p.into();
                }
                if params.top_k > 0 {
                    body["top_k"] = params.top_k.into();
                }
                body
            }
        }
    }

    /// The key of the experiment file that a refusal in these words concerns; empty if unknown.
    pub fn hint(self, words: &str) -> String {
        let keys =
            ["temperature", "top_p", "top_k", "max_tokens"].into_iter().filter(|key| names(words, key));
        let keys: Vec<String> = keys
            .map(|key| format!("`{}`", if key == "max_tokens" { "max_new_tokens" } else { key }))
            .collect();
        match keys.is_empty() {
            true => " (`body = { ... }` of the source sends further fields)".to_string(),
            false => format!(" (set by {} of the source: take one out, or change it)", keys.join(" and ")),
        }
    }

    /// The answer in a reply with status 200.
    ///
    /// # Errors
    /// It is not a reply of this protocol, or not a complete one.
    pub fn answer(self, reply: &Value) -> Result<Answer> {
        if let Some(said) = error_of(reply) {
            bail!("it says `{}`", shortened(said));
        }
        let count = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
        match self {
            Protocol::Ollama => {
                let message = &reply["message"];
                let text = message["content"].as_str().context("no `message.content`")?.to_string();
                let text = if text.trim().is_empty() { thought(message).unwrap_or(text) } else { text };
                ensure!(reply["done"].as_bool() == Some(true), "it is not `done`");
                let end = ended(reply["done_reason"].as_str())?;
                let first = first_token(&reply["logprobs"][0])?;
                Ok(Answer { text, end, tokens: count(&reply["eval_count"]), first })
            }
            Protocol::OpenAi => {
                let choice = reply["choices"].get(0).context("no `choices`")?;
                // A router reports its provider's failure within a reply with status 200.
                if let Some(said) = error_of(choice) {
                    bail!("it says `{}`", shortened(said));
                }
                let message = &choice["message"];
                ensure!(message.is_object(), "no `choices[0].message`");
                let tokens = count(&reply["usage"]["completion_tokens"]);
                if let Some(refusal) = message["refusal"].as_str().filter(|refusal| !refusal.is_empty()) {
                    return Ok(Answer { text: refusal.to_string(), end: End::Filtered, tokens, first: None });
                }
                let text = content(&message["content"]).context("no text in `choices[0].message.content`")?;
                let text = if text.trim().is_empty() { thought(message).unwrap_or(text) } else { text };
                let end = ended(choice["finish_reason"].as_str())?;
                let first = first_token(&choice["logprobs"]["content"][0])?;
                Ok(Answer { text, end, tokens, first })
            }
        }
    }
}

/// The most likely first tokens, from the first entry in a list of log-probabilities; the sampled token if no others
/// are listed. `None` if there is no such entry.
fn first_token(token: &Value) -> Result<Option<Vec<(String, f64)>>> {
    if !token.is_object() {
        return Ok(None);
    }
    let one = |entry: &Value| -> Result<(String, f64)> {
        let text = entry["token"].as_str().context("a log-probability of no token")?;
        let log = entry["logprob"].as_f64().filter(|log| log.is_finite() && *log < 1e-3);
        Ok((text.to_string(), log.with_context(|| format!("no log-probability of the token {text:?}"))?))
    };
    match token["top_logprobs"].as_array().filter(|top| !top.is_empty()) {
        Some(top) => top.iter().map(one).collect::<Result<_>>().map(Some),
        None => Ok(Some(vec![one(token)?])),
    }
}

/// The reasoning of a model that produced nothing else, as a reply that is only reasoning: vLLM, DeepSeek and
/// llama.cpp name it `reasoning_content`, routers and newer vLLM `reasoning`, Ollama `thinking`.
fn thought(message: &Value) -> Option<String> {
    let thought =
        ["reasoning_content", "reasoning", "thinking"].into_iter().find_map(|name| message[name].as_str())?;
    (!thought.trim().is_empty()).then(|| format!("<think>{thought}"))
}

/// The text of a message: a string; the text parts of a list of parts, without reasoning; empty if the model refused
/// or only reasoned.
fn content(content: &Value) -> Option<String> {
    match content {
        Value::Null => Some(String::new()),
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            let text = |part: &Value| match part {
                Value::String(text) => Some(text.clone()),
                part => match part["type"].as_str() {
                    None | Some("text" | "output_text") => Some(part["text"].as_str()?.to_string()),
                    _ => Some(String::new()),
                },
            };
            parts.iter().map(text).collect()
        }
        _ => None,
    }
}

/// How a reply ended, in the terms of OpenAI, Anthropic, Google, vLLM, Ollama and routers before them; an error if it
/// ended prematurely.
fn ended(reason: Option<&str>) -> Result<End> {
    let Some(reason) = reason else { return Ok(End::Whole) };
    match reason.to_ascii_lowercase().as_str() {
        "" | "stop" | "eos" | "eos_token" | "end_turn" | "stop_sequence" | "complete" | "completed"
        | "finish_reason_stop" => Ok(End::Whole),
        // It called a tool that was not offered: any text that is there is judged as it is.
        "tool_calls" | "function_call" | "tool_use" => Ok(End::Whole),
        "length" | "max_tokens" | "max_output_tokens" | "model_length" | "model_context_window_exceeded" => {
            Ok(End::Cut)
        }
        "content_filter"
        | "content_filtered"
        | "safety"
        | "refusal"
        | "recitation"
        | "blocklist"
        | "prohibited_content"
        | "spii"
        | "sensitive"
        | "guardrail_intervened" => Ok(End::Filtered),
        _ => bail!("it ended for the reason `{}`", shortened(reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::stories::Reject;

    fn question() -> Question {
        Question { prompt: "Tell.".into(), seed: 7 }
    }

    fn params() -> Generate {
        let reject = Reject {
            names_emotion: false,
            min_tokens: 0,
            attempts: 1,
            refusals: false,
            cut: false,
            near_duplicate: None,
        };
        Generate {
            topics: Vec::new(),
            per_topic: 1,
            max_new_tokens: 8,
            temperature: 0.5,
            top_p: 0.9,
            top_k: 0,
            prompt: String::new(),
            system: String::new(),
            several: None,
            reject,
        }
    }

    /// Written by hand from the documentation of the two protocols.
    #[test]
    fn bodies_are_what_the_protocols_say() {
        let mut params = params();
        let body = Protocol::Ollama.body("m", &params, &question(), Manner::default());
        assert_eq!(
            body,
            json!({"model": "m", "messages": [{"role": "user", "content": "Tell."}], "stream": false,
                   "think": false,
                   "options": {"temperature": 0.5, "top_p": 0.9, "top_k": 0, "num_predict": 8, "seed": 7}})
        );
        params.system = "Be kind.".into();
        let body = Protocol::OpenAi.body("m", &params, &question(), Manner::default());
        let messages =
            json!([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Tell."}]);
        assert_eq!(
            body,
            json!({"model": "m", "messages": messages, "temperature": 0.5, "top_p": 0.9, "seed": 7,
                   "max_tokens": 8})
        );
        params.top_k = 5;
        let manner = Manner { completion_tokens: true, ..Manner::default() };
        let body = Protocol::OpenAi.body("m", &params, &question(), manner);
        assert_eq!((&body["max_completion_tokens"], &body["top_k"]), (&json!(8), &json!(5)));
        assert!(body.get("max_tokens").is_none() && body.get("n").is_none());
    }

    /// The messages are OpenAI's.
    #[test]
    fn refusals_say_how_to_ask() {
        let mut params = params();
        let none = Manner::default();
        let bound = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' \
                     instead.";
        let manner = none.after(bound, &params).unwrap();
        assert_eq!(manner, Manner { completion_tokens: true, ..none });
        assert_eq!(manner.after(bound, &params), None, "asked for twice");
        let top_p = "Unsupported parameter: 'top_p' is not supported with this model.";
        let temperature = "Unsupported value: 'temperature' does not support 0.5 with this model. Only the default (1) \
                           value is supported.";
        assert_eq!([top_p, temperature].map(|words| none.after(words, &params)), [None, None]);
        (params.temperature, params.top_p) = (1.0, 1.0);
        let manner =
            none.after(top_p, &params).and_then(|manner| manner.after(temperature, &params)).unwrap();
        let body = Protocol::OpenAi.body("m", &params, &question(), manner);
        assert!(body.get("temperature").is_none() && body.get("top_p").is_none() && body["max_tokens"] == 8);
        // Anthropic's message, in backquotes.
        let both = "`temperature` and `top_p` cannot both be specified for this model. Please use only one.";
        params.top_p = 0.9;
        let body = Protocol::OpenAi.body("m", &params, &question(), none.after(both, &params).unwrap());
        assert!(body.get("temperature").is_none() && body["top_p"] == 0.9);
        params.temperature = 0.5;
        assert_eq!(none.after(both, &params), None, "both are asked for");
        // Messages of OpenAI, of FastAPI and of others.
        for seed in [
            "Unrecognized request argument supplied: seed",
            r#"{"detail":[{"type":"extra_forbidden","loc":["body","seed"],"msg":"Extra inputs are not permitted"}]}"#,
            "property 'seed' is unsupported",
            "This endpoint does not support seed.",
            "Invalid parameter: seed",
        ] {
            let body = Protocol::OpenAi.body("m", &params, &question(), none.after(seed, &params).unwrap());
            assert!(body.get("seed").is_none(), "{seed}");
        }
    }

    #[test]
    fn replies_are_read_and_others_are_not() {
        let said = |protocol: Protocol, reply: Value| protocol.answer(&reply).map_err(|e| e.to_string());
        let whole = json!({"message": {"role": "assistant", "content": "Once."}, "done": true,
                           "done_reason": "stop", "eval_count": 12});
        let answer = |end| Answer { text: "Once.".into(), end, tokens: Some(12), first: None };
        assert_eq!(said(Protocol::Ollama, whole.clone()), Ok(answer(End::Whole)));
        let mut cut = whole.clone();
        cut["done_reason"] = "length".into();
        assert_eq!(said(Protocol::Ollama, cut), Ok(answer(End::Cut)));
        let mut half = whole.clone();
        half["done"] = false.into();
        assert_eq!(said(Protocol::Ollama, half), Err("it is not `done`".into()));
        assert_eq!(said(Protocol::Ollama, json!({"error": "no\nroom"})), Err("it says `no room`".into()));

        let whole = json!({"choices": [{"index": 0, "message": {"content": "Once."}, "finish_reason": "stop"}],
                           "usage": {"prompt_tokens": 3, "completion_tokens": 12}});
        assert_eq!(said(Protocol::OpenAi, whole.clone()), Ok(answer(End::Whole)));
        let mut cut = whole.clone();
        cut["choices"][0]["finish_reason"] = "length".into();
        assert_eq!(said(Protocol::OpenAi, cut), Ok(answer(End::Cut)));
        let mut null = whole.clone();
        null["choices"][0]["message"]["content"] = Value::Null;
        null["usage"] = Value::Null;
        assert_eq!(
            said(Protocol::OpenAi, null),
            Ok(Answer { text: String::new(), end: End::Whole, tokens: None, first: None })
        );
        let mut thought = whole.clone();
        thought["choices"][0]["message"] = json!({"content": null, "reasoning_content": "Once?"});
        assert_eq!(said(Protocol::OpenAi, thought).unwrap().text, "<think>Once?");
        let thought = json!({"message": {"content": "", "thinking": "Once?"}, "done": true});
        assert_eq!(said(Protocol::Ollama, thought).unwrap().text, "<think>Once?");
        assert_eq!(said(Protocol::OpenAi, json!({"choices": []})), Err("no `choices`".into()));
        assert!(said(Protocol::OpenAi, json!({"choices": [{}]})).is_err());
        assert!(said(Protocol::OpenAi, json!(["Once."])).is_err());
    }

    #[test]
    fn every_end_of_a_reply_is_judged() {
        let of = |reason: Value| {
            let choice = json!({"message": {"content": "Once."}, "finish_reason": reason});
            Protocol::OpenAi
                .answer(&json!({"choices": [choice]}))
                .map(|answer| answer.end)
                .map_err(|e| e.to_string())
        };
        for (reason, end) in [
            ("stop", End::Whole),
            ("max_tokens", End::Cut),
            ("SAFETY", End::Filtered),
            ("content_filter", End::Filtered),
        ] {
            assert_eq!(of(reason.into()), Ok(end), "{reason}");
        }
        assert_eq!(of(Value::Null), Ok(End::Whole));
        for reason in ["error", "abort", "network_error", "something_new"] {
            assert_eq!(of(reason.into()), Err(format!("it ended for the reason `{reason}`")));
        }
        let choice = json!({"message": {"content": "Onc"}, "finish_reason": "stop", "error": {"message": "Provider gone"}});
        assert!(
            Protocol::OpenAi
                .answer(&json!({"choices": [choice]}))
                .unwrap_err()
                .to_string()
                .contains("Provider gone")
        );
        let declined =
            json!({"message": {"content": null, "refusal": "I will not."}, "finish_reason": "stop"});
        let declined = Protocol::OpenAi.answer(&json!({"choices": [declined]})).unwrap();
        assert_eq!((declined.text.as_str(), declined.end), ("I will not.", End::Filtered));
    }

    #[test]
    fn parts_that_are_text_are_the_text() {
        let parts = json!([{"type": "thinking", "thinking": [{"type": "text", "text": "Rain?"}]}, {"type": "text", "text": "It "}, "rained."]);
        assert_eq!(content(&parts), Some("It rained.".into()));
        assert_eq!(content(&json!([{"text": "It rained."}])), Some("It rained.".into()));
        assert_eq!((content(&Value::Null), content(&json!({"a": 1}))), (Some(String::new()), None));
    }
}
