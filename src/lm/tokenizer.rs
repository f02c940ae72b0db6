//! Conversion between text and token ids with the checkpoint's tokenizer and chat template, keeping track of which
//! tokens come from the text. Independent of weights.

pub mod gguf;
mod opened;
mod read;
mod settings;
mod tekken;
mod turns;

pub use turns::{Ending, Turns};

use super::bounded::{Bounds, ThreadPool, Wary};
use super::checkpoint::Checkpoint;
use super::template::{Chat, ChatTemplate, Message, Role, is_space};
use anyhow::{Context, Result, anyhow, ensure};
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use tokenizers::{Encoding, Tokenizer as Fast};

pub use opened::Opened;

/// Token ids, and the range that comes from the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// All token ids: the model's input.
    pub ids: Vec<i64>,
    /// Range of the tokens that come from the text. A token added by the tokenizer or the template (BOS, a turn's
    /// header) is not included; a token that joins the two is, except for a special token that only absorbed adjacent
    /// white space.
    pub text: Range<usize>,
}

/// Context around a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wrap {
    /// Only the tokenizer's own BOS.
    Raw,
    /// The chat template, with the text as the user's turn.
    User,
    /// The chat template, with the text as the model's turn after an empty user turn, since many templates reject a
    /// conversation that starts with the model.
    Assistant,
}

/// The tokenizer of one checkpoint with its chat template.
pub struct Tokenizer {
    fast: Arc<Fast>,
    wary: Wary,
    /// Source of the tokenizer, for people.
    place: String,
    said: Option<String>,
    /// Ids of the tokens outside the base vocabulary: special tokens, and other added tokens.
    added: HashSet<u32>,
    template: Option<ChatTemplate>,
    /// The end token named in `tokenizer_config.json`.
    end: Option<u32>,
}

/// Limits for reading `tokenizer.json`; Gemma's takes 2 seconds and 500 MB.
const READING: Bounds = Bounds { seconds: 600, bytes: 4 << 30 };
/// Regular expressions are parsed recursively, which needs a large stack.
static POOL: ThreadPool = ThreadPool::new(64 << 20);

/// Placeholder used to locate the text in a rendered template; no template writes it.
const PLACE: &str = "\u{e000}\u{e001}\u{e000}";

impl Tokenizer {
    /// Reads `tokenizer.json`, `tokenizer_config.json` and the chat template. Whether a BOS is added is determined by
    /// `tokenizer.json`; `add_bos_token` next to it is ignored, and a template sees only the `bos_token` of
    /// `tokenizer_config.json`, whatever id `config.json` specifies: both as in transformers 5. Where transformers 5
    /// builds parts of a tokenizer from its class instead of the file (`LlamaTokenizer`, `GPT2Tokenizer`), the file is
    /// used, because the model was trained with it.
    ///
    /// # Errors
    /// A file that cannot be read or parsed, or exceeds the limits for reading.
    pub fn load(checkpoint: &Checkpoint) -> Result<Tokenizer> {
        let (wary, place) = (Wary::default(), checkpoint.tokenizer_path().display().to_string());
        let own = checkpoint.clone();
        let read = wary.run(&POOL, READING, move || {
            let (bytes, config) = own.read_tokenizer()?;
            // `config.json` is validated when the model is loaded, so errors are ignored here.
            let model = own.read_config().unwrap_or_default();
            let (fast, said) = read::read(&bytes, &config, &model)?;
            Ok((fast, said, config))
        });
        let (fast, said, config) = read.with_context(|| format!("read {place}"))?;
        let source = checkpoint.read_chat_template()?.or_else(|| settings::chat_template(&config));
        let special = settings::special_tokens(&config);
        let template = source.map(|source| ChatTemplate::new(&source, special)).transpose()?;
        let added = fast.get_added_tokens_decoder().into_keys().collect();
        let end = settings::end_token(&config).and_then(|token| fast.token_to_id(&token));
        Ok(Tokenizer { fast: Arc::new(fast), wary, place, said, added, template, end })
    }

    /// Whether a checkpoint has a chat template; determined without building the tokenizer.
    ///
    /// # Errors
    /// Errors of reading the files that would contain it.
    pub fn is_chat_tokenizer(checkpoint: &Checkpoint) -> Result<bool> {
        if checkpoint.read_chat_template()?.is_some() {
            return Ok(true);
        }
        Ok(settings::chat_template(&checkpoint.read_tokenizer()?.1).is_some())
    }

    /// For people: a peculiarity of the tokenizer of `checkpoint`. Most tokenizers are not read for this.
    pub fn oddity(checkpoint: &Checkpoint) -> Option<String> {
        // A tokenizer rebuilt from a GGUF file has no `tokenizer.json` that could be peculiar.
        if checkpoint.tokenizer_is_rebuilt() {
            return None;
        }
        // An unreadable file is reported where it is needed.
        let model = checkpoint.read_config().ok()?;
        let tokenizer = tekken::is_concerned(&model).then(|| Tokenizer::load(checkpoint).ok())??;
        tokenizer.said
    }

    /// The end token in the tokenizer's own settings, which `config.json` may not name.
    pub fn end_token(&self) -> Option<i64> {
        self.end.map(i64::from)
    }

    /// Whether the checkpoint has a chat template.
    pub fn has_chat_template(&self) -> bool {
        self.template.is_some()
    }

    /// Encodes the plain text after the tokenizer's BOS, if it adds one. A text that already begins with the BOS does
    /// not get another.
    pub fn encode(&self, text: &str) -> Result<Tokens> {
        let encoding = self.encoding(text, true)?;
        let mut ids = ids(&encoding);
        let special = encoding.get_special_tokens_mask();
        let start = special.iter().position(|&s| s == 0).unwrap_or(ids.len());
        let mut text = start..special.iter().rposition(|&s| s == 0).map_or(start, |last| last + 1);
        // An EOS after the text would tell the model that the text has ended.
        ids.truncate(text.end);
        if text.start == 1 && ids.first() == ids.get(1) {
            ids.remove(0);
            text.end -= 1;
        }
        Ok(Tokens { ids, text })
    }

    /// Encodes the text inside the chat template.
    ///
    /// # Errors
    /// No chat template; a template that rejects the conversation, omits the text, writes it twice or changes it beyond
    /// the white space at its ends.
    pub fn encode_wrapped(&self, text: &str, wrap: Wrap, chat: Chat) -> Result<Tokens> {
        let conversation = |content: &str| match wrap {
            Wrap::Assistant => {
                vec![Message::new(Role::User, ""), Message::new(Role::Assistant, content)]
            }
            Wrap::Raw | Wrap::User => vec![Message::new(Role::User, content)],
        };
        if wrap == Wrap::Raw {
            return self.encode(text);
        }
        let template = self.template()?;
        let empty = template.render(&conversation(PLACE), false, chat)?;
        let (before, after) = empty.split_once(PLACE).context("the chat template leaves the text out")?;
        let rendered = template.render(&conversation(text), false, chat)?;
        let written = rendered
            .strip_prefix(before)
            .and_then(|rest| rest.strip_suffix(after))
            .filter(|written| text.contains(*written) && ends_trimmed(written) == ends_trimmed(text))
            .context("the chat template changes the text, so that its tokens cannot be identified")?;
        let encoding = self.encoding(&rendered, false)?;
        let text = self.tokens_within(&encoding, &(before.len()..before.len() + written.len()));
        Ok(Tokens { ids: ids(&encoding), text })
    }

    /// Renders a conversation with the chat template; `open` adds the start of the model's turn.
    ///
    /// # Errors
    /// No chat template, or one that rejects the conversation.
    pub fn render_chat(&self, messages: &[Message], open: bool, chat: Chat) -> Result<String> {
        self.template()?.render(messages, open, chat)
    }

    /// Encodes a conversation with the start of the model's turn. Special tokens are those of the template.
    ///
    /// # Errors
    /// See [`render_chat`](Self::render_chat).
    pub fn encode_chat(&self, messages: &[Message], chat: Chat) -> Result<Vec<i64>> {
        Ok(ids(&self.encoding(&self.render_chat(messages, true, chat)?, false)?))
    }

    /// Encodes a user request with optional instructions (none if empty), with the start of the model's turn. If a
    /// template rejects a system turn (Gemma 2) or ignores it, the user's turn contains the instructions, a blank line,
    /// and the request.
    ///
    /// # Errors
    /// See [`render_chat`](Self::render_chat); also a template that omits the user's plain text.
    pub fn encode_request(&self, instructions: &str, request: &str, chat: Chat) -> Result<Vec<i64>> {
        let turns = |instructions: &str| {
            [Message::new(Role::System, instructions), Message::new(Role::User, request)]
        };
        let user = |content: String| [Message::new(Role::User, content)];
        let plain = self.render_chat(&user(PLACE.to_string()), true, chat)?;
        ensure!(plain.contains(PLACE), "the chat template leaves the text out");
        if instructions.is_empty() {
            return self.encode_chat(&user(request.to_string()), chat);
        }
        let takes_them = self.render_chat(&turns(PLACE), true, chat).is_ok_and(|text| text.contains(PLACE));
        if takes_them {
            self.encode_chat(&turns(instructions), chat)
        } else {
            self.encode_chat(&user(format!("{instructions}\n\n{request}")), chat)
        }
    }

    /// The ids of the prompt, and those of a space and `word` as tokenized after it.
    ///
    /// # Errors
    /// A tokenizer that merges the end of the prompt with the word.
    pub fn encode_continuation(&self, prompt: &str, word: &str) -> Result<(Vec<i64>, Vec<i64>)> {
        let prompt_ids = self.encode(prompt)?.ids;
        let mut all = self.encode(&format!("{prompt} {word}"))?.ids;
        ensure!(
            all.len() > prompt_ids.len() && all.starts_with(&prompt_ids),
            "the tokenizer joins the end of the prompt {prompt:?} with {word:?}; end the prompt with a whole word"
        );
        let word_ids = all.split_off(prompt_ids.len());
        Ok((prompt_ids, word_ids))
    }

    /// One token for people: its text with leading space, or its name if it is not a complete text.
    pub fn token(&self, id: u32) -> String {
        let Some(name) = self.fast.id_to_token(id) else { return format!("[{id}]") };
        if name.contains('\u{2581}') {
            return name.replace('\u{2581}', " ");
        }
        match self.decoded(vec![id], false) {
            Ok(text) if !text.is_empty() && !text.contains(char::REPLACEMENT_CHARACTER) => text,
            _ => name,
        }
    }

    /// Decodes token ids, without special tokens.
    pub fn decode(&self, ids: &[i64]) -> Result<String> {
        self.decoded(ids.iter().filter_map(|&id| u32::try_from(id).ok()).collect(), true)
    }

    fn decoded(&self, ids: Vec<u32>, skip_special: bool) -> Result<String> {
        let (fast, bounds) = (Arc::clone(&self.fast), for_text(ids.len()));
        let work = move || fast.decode(&ids, skip_special).map_err(|e| anyhow!("{e}"));
        self.wary.run(&POOL, bounds, work).with_context(|| format!("decode tokens by {}", self.place))
    }

    /// Like [`decode`](Self::decode), but keeps the special tokens for which `keeps` returns true.
    pub fn decode_with(&self, ids: &[i64], keeps: &dyn Fn(&str) -> bool) -> Result<String> {
        let added = self.fast.get_added_vocabulary();
        let shown = |id: &u32| {
            let Some(token) = self.added.contains(id).then(|| self.fast.id_to_token(*id)).flatten() else {
                return true;
            };
            !added.is_special_token(&token) || keeps(&token)
        };
        let ids: Vec<u32> = ids.iter().filter_map(|&id| u32::try_from(id).ok()).filter(shown).collect();
        self.decoded(ids, false)
    }

    /// The tokens that contain at least one byte of `bytes`. An added token that extends beyond this range has only
    /// absorbed adjacent white space and is not included.
    fn tokens_within(&self, encoding: &Encoding, bytes: &Range<usize>) -> Range<usize> {
        let holds = |(&(from, to), id): (&(usize, usize), &u32)| {
            let reaches_out = from < bytes.start || to > bytes.end;
            from < to && from < bytes.end && to > bytes.start && !(reaches_out && self.added.contains(id))
        };
        let mut tokens = encoding.get_offsets().iter().zip(encoding.get_ids());
        let start = tokens.clone().position(holds).unwrap_or(0);
        start..tokens.rposition(holds).map_or(start, |last| last + 1)
    }

    fn template(&self) -> Result<&ChatTemplate> {
        self.template.as_ref().context("the model has no chat template")
    }

    fn encoding(&self, text: &str, special: bool) -> Result<Encoding> {
        let (fast, bounds) = (Arc::clone(&self.fast), for_text(text.len()));
        let own = text.to_string();
        let work = move || fast.encode(own, special).map_err(|e| anyhow!("{e}"));
        self.wary.run(&POOL, bounds, work).with_context(|| {
            let beginning: String = text.chars().take(40).collect();
            format!("tokenize {beginning:?} ({} bytes) by {}", text.len(), self.place)
        })
    }
}

/// Limits for tokenizing a text of this many bytes, or decoding this many tokens: a kilobyte each is several times what
/// published tokenizers need.
fn for_text(length: usize) -> Bounds {
    Bounds { seconds: 60, bytes: length.saturating_mul(1 << 10).saturating_add(256 << 20) }
}

fn ids(encoding: &Encoding) -> Vec<i64> {
    encoding.get_ids().iter().map(|&id| i64::from(id)).collect()
}

/// The text without white space at its ends, as trimmed by templates.
fn ends_trimmed(text: &str) -> &str {
    text.trim_matches(is_space)
}
