//! Finds the program in a text. Runs nothing.

/// A program, and whether the text continues after it; then it is complete even if the text was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    pub code: String,
    pub is_closed: bool,
}

/// Language tags of code blocks that count as Python.
const PYTHON: [&str; 5] = ["", "python", "py", "python3", "py3"];

/// How lines of a program outside code blocks begin.
const BEGINNINGS: [&str; 6] = ["def ", "class ", "import ", "from ", "@", "async def "];

/// The last program of a text. With fenced code blocks (three backticks): the last block that defines a function, or
/// else the last block. Without: the last run of lines that begin like a program, with the indented lines below them.
/// `None` if there is no program.
pub fn last(text: &str) -> Option<Program> {
    let mut blocks: Vec<Program> = Vec::new();
    // The open block: whether it is Python, and its lines.
    let mut open: Option<(bool, Vec<&str>)> = None;
    let mut fenced = false;
    for line in text.lines() {
        let Some(language) = line.trim_start().strip_prefix("```") else {
            if let Some((_, lines)) = &mut open {
                lines.push(line);
            }
            continue;
        };
        fenced = true;
        match open.take() {
            None => {
                let is_python = PYTHON.contains(&language.trim().to_lowercase().as_str());
                open = Some((is_python, Vec::new()));
            }
            Some((true, lines)) => blocks.push(Program { code: lines.join("\n"), is_closed: true }),
            Some((false, _)) => {}
        }
    }
    if let Some((true, lines)) = open {
        blocks.push(Program { code: lines.join("\n"), is_closed: false });
    }
    if !fenced {
        blocks.extend(bare(text));
    }
    blocks.retain(|block| !block.code.trim().is_empty());
    let defines = |block: &Program| block.code.contains("def ");
    let at = blocks.iter().rposition(defines).or(blocks.len().checked_sub(1))?;
    Some(blocks.swap_remove(at))
}

/// Lines that begin like a program, with the indented lines below them.
fn bare(text: &str) -> Option<Program> {
    let lines: Vec<&str> = text.lines().collect();
    let begins = |line: &str| BEGINNINGS.iter().any(|beginning| line.starts_with(beginning));
    let belongs = |line: &str| {
        begins(line) || line.trim().is_empty() || line.starts_with([' ', '\t', '#', ')', ']', '}'])
    };
    let last = lines.iter().rposition(|line| begins(line))?;
    let from = lines[..last].iter().rposition(|line| !belongs(line)).map_or(0, |before| before + 1);
    // Prose may be indented as well.
    let from = from + lines[from..].iter().position(|line| begins(line))?;
    let to = lines[last..].iter().position(|line| !belongs(line)).map_or(lines.len(), |more| last + more);
    Some(Program { code: lines[from..to].join("\n").trim_end().to_string(), is_closed: to < lines.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<(String, bool)> {
        last(text).map(|program| (program.code, program.is_closed))
    }

    #[test]
    fn the_last_program_counts() {
        let two = "Well:\n```python\ndef f(): return 1\n```\nBetter:\n```\ndef f(): return 2\n```\nRun it:\n```python\nf()\n```\n";
        assert_eq!(of(two), Some(("def f(): return 2".into(), true)));
        assert_eq!(of("```python\nprint(1)\n```"), Some(("print(1)".into(), true)));
        assert_eq!(of("```python\ndef f():\n    return 1"), Some(("def f():\n    return 1".into(), false)));
        // Another language, an empty block, prose.
        assert_eq!(of("```bash\nrm -r def x\n```"), None);
        assert_eq!(of("```\n\n```"), None);
        assert_eq!(of("I would define total as the sum. The default is def."), None);
        let bare = "Here it is.\n\nimport math\n\ndef f(n):\n    return n\n\nThat is all.";
        assert_eq!(of(bare), Some(("import math\n\ndef f(n):\n    return n".into(), true)));
        assert_eq!(of("def f(n):\n  return n"), Some(("def f(n):\n  return n".into(), false)));
    }
}
