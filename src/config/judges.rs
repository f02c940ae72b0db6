//! `[judges]`: the models that classify texts. Sends no request.

use serde::Serialize;

use super::{Span, Writer};
use crate::params::{Kind, Params as _, Parts, Problem, Read, Reader, Texts, Type, params};
use crate::stages::scores::judge::{By, Who};
use crate::stages::stories::Server;

params! {
    /// Who says what a text of a scenario is: a model of the file, or one at a server. Exactly one of `model`, `openai` and `ollama`.
    /// See docs/behaviour.md.
    #[check(one)]
    pub struct JudgeKeys {
        /// `"self"` (each model judges what it wrote), or the name of one of `[models]`.
        #[unset("-")]
        #[of(Type::Text)]
        #[with(model)]
        pub model: Option<Writer>;
        /// An endpoint of OpenAI's protocol that tells log-probabilities (`logprobs`).
        #[unset("-")]
        #[of(Type::Kind(Kind { name: "openai", table: Server::TABLE, texts: Texts::Stories }))]
        #[with(server)]
        pub openai: Option<Server>;
        /// An Ollama server, of version 0.12.11 or later: earlier ones tell no log-probabilities.
        #[unset("-")]
        #[of(Type::Kind(Kind { name: "ollama", table: Server::TABLE, texts: Texts::Stories }))]
        #[with(server)]
        pub ollama: Option<Server>;
        /// In how many orders each text's options are shown, over which probabilities are averaged; at most as many as there are
        /// options. Which is shown first differs from text to text.
        pub orders: usize = 2, 1..=8;
    }
}

/// One `[judges.<name>]` table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judge {
    pub name: String,
    pub who: Who,
    #[serde(skip)]
    pub span: Span,
}

/// Every valid judge, in the order of the file.
pub(super) fn judges(root: &Reader<'_>, name: &str) -> Read<Vec<Judge>> {
    if !root.has(name) {
        return Ok(Vec::new());
    }
    let read = root.named(name)?.into_iter().map(|(entry, reader)| {
        let JudgeKeys { model, openai, ollama, orders } = JudgeKeys::read(&reader)?;
        let by = match (model, openai.or(ollama)) {
            (_, Some(server)) => By::Server(server),
            (Some(Writer::Model(name)), None) => By::Model(name),
            _ => By::Own,
        };
        Ok(Judge { name: entry.key, who: Who { by, orders }, span: reader.span() })
    });
    // Collected first, so that every problem is reported.
    read.collect::<Vec<_>>().into_iter().collect()
}

fn model(reader: &Reader<'_>, name: &str) -> Read<Option<Writer>> {
    if reader.has(name) { reader.get(name).map(Some) } else { Ok(None) }
}

fn server(reader: &Reader<'_>, name: &str) -> Read<Option<Server>> {
    reader.of_kind(name)?.map(|table| Server::read(&table)).transpose()
}

fn one(reader: &Reader<'_>, _: &Parts<JudgeKeys>) -> Read<()> {
    let written = ["model", "openai", "ollama"].into_iter().filter(|key| reader.has(key)).count();
    if written == 1 {
        return Ok(());
    }
    let problem = Problem::at(reader.span(), format!("`[{}]` names {written} judges", reader.label));
    reader.wrong(problem.hint("write one of `model`, `openai` and `ollama`"))
}
