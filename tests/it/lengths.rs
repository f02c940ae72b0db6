//! What is longer than the model's context: stories, neutral text, requests, prompts and situations. The demonstration
//! model reads 512 tokens.

use emoflow::config::Experiment;
use emoflow::store::parquet;
use emoflow::store::table::Table;

use crate::project::{Project, Ran};

const EXPERIMENT: &str = r#"
name = "exp"
layers = [3]

[models.demo]
path = "{demo}"

[emotions]
words = ["happy", "sad"]

[stories.mine.file]
path = "stories.csv"

[neutral.file]
path = "neutral.csv"

[activations]
from_token = 1

[vectors]
denoise = { components = 1 }
"#;

/// A sentence of six tokens or more, `n` times.
fn long(n: usize) -> String {
    "The rain fell on the road. ".repeat(n)
}

/// The experiment with `long` as `policy`: two of six stories and one of four neutral texts are beyond the context.
fn project(policy: &str) -> Project {
    let long = if policy.is_empty() { String::new() } else { format!("\nlong = \"{policy}\"") };
    let project = Project::new(&EXPERIMENT.replace("from_token = 1", &format!("from_token = 1{long}")));
    let row = |emotion: &str, text: &str| format!("{emotion},\"{text}\"\n");
    let stories = [
        row("happy", "They danced around the table until the plates rang."),
        row("sad", "He put the second cup back into the cupboard."),
        row("happy", &self::long(120)),
        row("sad", "She read the board twice, although nothing had changed."),
        row("happy", "The whole row stood up and sang."),
        row("sad", &format!("Nobody came. {}", self::long(100))),
    ];
    std::fs::write(project.path("stories.csv"), format!("emotion,text\n{}", stories.concat())).unwrap();
    let neutral = [&self::long(130), "Water boils.", "Ice melts at zero.", "Iron rusts in wet air."];
    let neutral = neutral.map(|text| format!("\"{text}\"\n")).concat();
    std::fs::write(project.path("neutral.csv"), format!("text\n{neutral}")).unwrap();
    project
}

/// Why `node` failed.
fn reason(project: &Project, ran: &Ran, node: &str) -> String {
    assert_eq!((ran.code, ran.nodes[node].as_str()), (1, "failed"), "{}", ran.out);
    let text = std::fs::read(project.path("results/exp/run.json")).unwrap();
    let run: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let nodes = run["nodes"].as_array().unwrap();
    nodes.iter().find(|n| n["name"] == node).unwrap()["reason"].as_str().unwrap().to_string()
}

/// The row of a source in the report's first table, tags taken out.
fn counted(project: &Project, source: &str) -> String {
    let page = crate::page(&project.path("results/exp/report.html"));
    let begins = format!("<td>{source}</td>");
    let row = page.split("<tr>").find(|row| row.starts_with(&begins)).unwrap();
    let row = row.split("</tr>").next().unwrap();
    let text = row.split('<').filter_map(|tag| tag.split_once('>')).map(|(_, text)| text.trim());
    text.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("|")
}

fn vectors(project: &Project) -> Table {
    let file = std::fs::File::open(project.path("results/exp/vectors/demo/mine.parquet")).unwrap();
    parquet::read(file, "vectors/2").unwrap()
}

#[test]
fn a_text_beyond_the_context_is_an_error_that_names_it_and_the_remedies() {
    for policy in ["", "error"] {
        let project = project(policy);
        let ran = project.run(&[]);
        let said = reason(&project, &ran, "activations/demo/mine");
        for part in
            ["(happy, 2, \"The rain fell", "tokens, and the model's context is 512", "\"skip\"", "\"cut\""]
        {
            assert!(said.contains(part), "{part}: {said}");
        }
        let said = reason(&project, &ran, "activations/demo/neutral");
        assert!(said.contains("(neutral, 0, \"The rain fell"), "{said}");
    }
}

#[test]
fn what_is_skipped_or_cut_is_counted_by_source() {
    let skipped = project("skip");
    assert_eq!(skipped.run(&[]).code, 0);
    let row = counted(&skipped, "mine");
    assert!(row.ends_with("|0|2"), "{row}");
    let row = counted(&skipped, "neutral");
    assert!(row.ends_with("|0|1"), "{row}");
    assert_eq!(vectors(&skipped).i32("n_stories").unwrap(), [2, 2]);

    let cut = project("cut");
    assert_eq!(cut.run(&[]).code, 0);
    let row = counted(&cut, "mine");
    assert!(row.ends_with("|0|2 (cut)"), "{row}");
    assert_eq!(vectors(&cut).i32("n_stories").unwrap(), [3, 3]);
}

#[test]
fn requests_and_prompts_beyond_the_context_are_errors_before_anything_is_computed() {
    let own = |max_new_tokens: usize| {
        let source = format!(
            "[stories.own.generate]\ntopics = [\"rain\"]\nper_topic = 1\nmax_new_tokens = {max_new_tokens}\n\n[act"
        );
        let (head, tail) = EXPERIMENT.split_once("[stories").unwrap();
        format!("{head}{source}{}", tail.split_once("[act").unwrap().1)
            .replace("denoise = { components = 1 }", "")
    };
    let project = Project::new(&own(512));
    assert_eq!(project.emoflow("check", &[]).code, 2);
    let read = Experiment::read_with(&project.path("exp.toml"), &[], &|asked| {
        emoflow::resolve::check(asked, &mut Vec::new())
    });
    let shown = read.unwrap_err().to_string();
    for part in
        ["`max_new_tokens` = 512 does not fit the context of model `demo`, 512 tokens", "exp.toml:11:1"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }

    project.write(&own(511));
    assert_eq!(project.emoflow("check", &[]).code, 0);
    let ran = project.run(&[]);
    let said = reason(&project, &ran, "stories/own@demo");
    assert!(said.contains("`max_new_tokens` = 511 do not fit the model's context of 512"), "{said}");

    let analyses = format!(
        "[stories.fixed.template]\npassages = [\"He was {{emotion}}.\", \"She was {{emotion}} too.\"]\n\n[activations]\nfrom_token = 1\n\n\
         [analysis.causes.steering]\nprompts = [\"{0}He feels\"]\n\n\
         [analysis.daily.implicit]\nwrap = \"raw\"\nsituations = [[\"{0}\", \"sad\"], [\"Rain.\", \"happy\"]]\n\n\
         [analysis.dose.intensity]\nwrap = \"raw\"\n[analysis.dose.intensity.templates.a]\nrise = [\"sad\"]\n\
         numbers = [1, 2, 3, 4]\ntexts = [\"{0} {{number}}\"]\n",
        long(100)
    );
    project.write(&format!("{}{analyses}", EXPERIMENT.split_once("[stories").unwrap().0));
    let ran = project.run(&[]);
    for (node, what) in [
        ("causes", "`happy` after `The rain"),
        ("daily", "the text \"The rain"),
        ("dose", "the text \"The rain"),
    ] {
        let said = reason(&project, &ran, &format!("{node}/demo/fixed"));
        assert!(said.contains(what) && said.contains("do not fit the model's context of 512"), "{said}");
    }
}
