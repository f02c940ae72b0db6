//! The plan as a graph with one box per stage, in Mermaid or Graphviz's DOT. Independent of the store.

use std::fmt::Write as _;

use crate::plan::Plan;

/// The graph languages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    Mermaid,
    Dot,
}

/// A stage, or a single analysis by name.
#[derive(Clone, Debug, PartialEq)]
struct Group {
    name: String,
    nodes: usize,
    units: usize,
    /// Number of cached units.
    there: usize,
    /// Number of units that a run would compute.
    missing: usize,
}

/// Boxes in the plan's order, with their dependencies.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    groups: Vec<Group>,
    /// From the input to its user, sorted.
    edges: Vec<(usize, usize)>,
}

impl Graph {
    /// The graph of `plan`. `counts`: the cached units of a node and those that a run would compute; `report`: whether
    /// the report is up to date.
    pub fn new(plan: &Plan, counts: impl Fn(usize) -> (usize, usize), report: bool) -> Graph {
        let mut graph = Graph::default();
        let mut of_node = Vec::new();
        for (index, node) in plan.nodes.iter().enumerate() {
            let group = graph.group(node.id.subject.head());
            let (there, missing) = counts(index);
            let it = &mut graph.groups[group];
            it.nodes += 1;
            it.units += node.units.len();
            it.there += there;
            it.missing += missing;
            of_node.push(group);
            let inputs = node.units.iter().flat_map(|unit| &unit.inputs).map(|input| of_node[input.node]);
            let edges: Vec<_> = inputs.map(|input| (input, group)).collect();
            graph.edges.extend(edges);
            graph.edges.sort_unstable();
            graph.edges.dedup();
        }
        let last = graph.group("report");
        graph.groups[last] = Group {
            nodes: 1,
            units: 1,
            there: report.into(),
            missing: (!report).into(),
            ..graph.groups[last].clone()
        };
        // The report shows everything except activations and neutral text.
        let shown = |group: &Group| !["activations", "neutral", "report"].contains(&group.name.as_str());
        let shown: Vec<usize> = (0..graph.groups.len()).filter(|&g| shown(&graph.groups[g])).collect();
        graph.edges.extend(shown.into_iter().map(|group| (group, last)));
        graph
    }

    fn group(&mut self, name: &str) -> usize {
        self.groups.iter().position(|group| group.name == name).unwrap_or_else(|| {
            self.groups.push(Group { name: name.to_string(), nodes: 0, units: 0, there: 0, missing: 0 });
            self.groups.len() - 1
        })
    }

    /// The graph in `language`.
    pub fn render(&self, language: Language) -> String {
        match language {
            Language::Mermaid => self.mermaid(),
            Language::Dot => self.dot(),
        }
    }

    fn mermaid(&self) -> String {
        let mut text = "flowchart LR\n".to_string();
        for (index, group) in self.groups.iter().enumerate() {
            let lines = group.lines().join("<br/>");
            let _ = writeln!(text, "    n{index}[\"{lines}\"]:::{}", group.standing());
        }
        for (from, to) in &self.edges {
            let _ = writeln!(text, "    n{from} --> n{to}");
        }
        for (standing, colour) in COLOURS {
            let _ = writeln!(text, "    classDef {standing} fill:{colour},stroke:#444,color:#000");
        }
        text
    }

    fn dot(&self) -> String {
        let mut text = "digraph plan {\n    rankdir=LR;\n".to_string();
        text += "    node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\"];\n";
        for (index, group) in self.groups.iter().enumerate() {
            let lines = group.lines().join("\\n");
            let colour = COLOURS.iter().find(|(standing, _)| *standing == group.standing());
            let colour = colour.map_or("#fff", |(_, colour)| colour);
            let _ = writeln!(text, "    n{index} [label=\"{lines}\", fillcolor=\"{colour}\"];");
        }
        for (from, to) in &self.edges {
            let _ = writeln!(text, "    n{from} -> n{to};");
        }
        text + "}\n"
    }
}

/// Idle: not cached and not requested.
const COLOURS: [(&str, &str); 4] =
    [("cached", "#d5e8d4"), ("partial", "#fff2cc"), ("missing", "#f8cecc"), ("idle", "#eeeeee")];

impl Group {
    fn standing(&self) -> &'static str {
        match (self.missing, self.there) {
            (0, there) if there == self.units => "cached",
            (0, _) => "idle",
            (_, 0) => "missing",
            _ => "partial",
        }
    }

    /// The text of the box. Names consist of letters, digits, `.`, `_` and `-`, so nothing has to be escaped.
    fn lines(&self) -> Vec<String> {
        let Group { name, nodes, units, there, .. } = self;
        let of = match nodes {
            1 => format!("{there} of {units} cached"),
            n => format!("{n} nodes, {there} of {units} units cached"),
        };
        vec![name.clone(), of]
    }
}
