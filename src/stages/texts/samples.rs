//! Texts that a model wrote in scenarios, as conversations. Does not depend on any model.

use anyhow::Result;

use super::{Said, Speaker, Transcript};
use crate::stages::rollouts::Asked;
use crate::store::table::Table;

/// Increased when the same texts would give different conversations.
pub const VERSION: u32 = 1;

/// The conversations of the first `most` texts about `case` in each cell of a table of rollouts; the id of each is its
/// `sample_id`.
///
/// # Errors
/// The table has another schema.
pub fn of_rollouts(case: &Asked, rollouts: &Table, most: usize) -> Result<Table> {
    let (id, sample) = (rollouts.str("sample_id")?, rollouts.i32("sample")?);
    let (text, earlier) = (rollouts.str("text")?, rollouts.str("earlier")?);
    let conversation = |row: usize| -> Result<Transcript> {
        let earlier: Vec<String> = serde_json::from_str(&earlier[row])?;
        let mut answers = case.replies.iter().chain(&earlier).chain([&text[row]]);
        let mut said = vec![Said { role: Speaker::System, content: case.system.clone() }];
        for turn in &case.turns {
            said.push(Said { role: Speaker::User, content: turn.clone() });
            let answer = answers.next().cloned().unwrap_or_default();
            said.push(Said { role: Speaker::Assistant, content: answer });
        }
        let (transcript, _) = Transcript::of(case.name.clone(), said, None, None)?;
        Ok(Transcript { id: id[row].clone(), ..transcript })
    };
    let rows = (0..rollouts.rows()).filter(|&row| sample[row] as usize <= most);
    Ok(super::table(&rows.map(conversation).collect::<Result<Vec<_>>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::table::Column;

    #[test]
    fn a_text_stands_behind_what_it_answers() {
        let case = Asked {
            name: "door".into(),
            control: false,
            system: "Be brief.".into(),
            turns: ["One?", "Two?", "Three?"].map(String::from).to_vec(),
            replies: vec!["First.".into()],
            answer: String::new(),
            shown: String::new(),
            hidden: String::new(),
            options: Vec::new(),
        };
        let texts = |of: [&str; 3]| Column::Str(of.map(String::from).to_vec());
        let columns = vec![
            ("sample_id", texts(["a", "b", "c"])),
            ("sample", Column::I32(vec![1, 2, 1])),
            ("text", texts(["Third.", "Other.", ""])),
            ("earlier", texts(["[\"Second.\"]", "[\"\"]", "[\"Second.\"]"])),
        ];
        let table = of_rollouts(&case, &Table::new("rollouts/1", columns), 1).unwrap();
        let rows = super::super::rows(&table).unwrap();
        let said =
            |at: usize| -> Vec<&str> { rows[at].turns.iter().map(|turn| turn.content.as_str()).collect() };
        assert_eq!(rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(said(0), ["Be brief.", "One?", "First.", "Two?", "Second.", "Three?", "Third."]);
        // An empty answer is not a turn.
        assert_eq!(said(1), ["Be brief.", "One?", "First.", "Two?", "Second.", "Three?"]);
    }
}
