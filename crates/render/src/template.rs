//! The part of Go's `text/template` that people use with `--format`: fields, pipes, `range`, `if`, `with`,
//! variables of `range`, and Docker's own functions. Anything else is refused by name.

mod functions;
mod parse;

use serde_json::Value;

use parse::{Node, Operand, Pipeline};

/// A template that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is not well formed.
    #[error("invalid template: {0}")]
    Syntax(String),
    /// It uses what is not there.
    #[error("unsupported in templates: {0}")]
    Unsupported(String),
    /// It names a field the object does not have.
    #[error("the template's field {0:?} is not there")]
    NoField(String),
    /// A function was given what it does not take.
    #[error("template function {function}: {detail}")]
    Call {
        /// Which function.
        function: String,
        /// What is wrong.
        detail: String,
    },
}

/// A template, ready to be applied to objects.
#[derive(Debug)]
pub struct Template {
    nodes: Vec<Node>,
}

/// What a template is applied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Object,
    /// One of a list, whose whole JSON is written for HTML.
    Row,
    /// The headings of a table.
    Headings,
}

struct Scope<'a> {
    kind: Kind,
    root: &'a Value,
    dot: &'a Value,
    variables: Vec<(String, Value)>,
}

impl Template {
    /// Reads the text of a template, as `--format` takes it.
    ///
    /// # Errors
    ///
    /// What is wrong with the text, in the words of Go's `text/template`.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        parse::parse(text).map(|nodes| Self { nodes })
    }

    /// What the template says of an object.
    ///
    /// # Errors
    ///
    /// A field that the object has not, or a function that cannot take its operands.
    pub fn render(&self, object: &Value) -> Result<String, TemplateError> {
        self.apply(Kind::Object, object)
    }

    /// For one of a list.
    pub(crate) fn render_row(&self, row: &Value) -> Result<String, TemplateError> {
        self.apply(Kind::Row, row)
    }

    /// For the headings of the columns, which stay as they are.
    pub(crate) fn render_headings(&self, headings: &Value) -> Result<String, TemplateError> {
        self.apply(Kind::Headings, headings)
    }

    fn apply(&self, kind: Kind, object: &Value) -> Result<String, TemplateError> {
        let mut out = String::new();
        let mut scope = Scope {
            kind,
            root: object,
            dot: object,
            variables: Vec::new(),
        };
        scope.nodes(&self.nodes, &mut out)?;
        Ok(out)
    }
}

/// How it goes on after a piece of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

fn undefined(variable: &str) -> TemplateError {
    TemplateError::Syntax(format!("undefined variable ${variable}"))
}

/// What Go calls true: not empty, not zero.
fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
    }
}

/// A value as Go's `%v` prints it.
pub fn show(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(s) => s.clone(),
        Value::Array(items) => format!("[{}]", join(items.iter().map(inner), " ")),
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_by_key(|(key, _)| key.as_str());
            let fields = sorted.into_iter().map(|(k, v)| format!("{k}:{}", inner(v)));
            format!("map[{}]", join(fields, " "))
        }
        other => other.to_string(),
    }
}

/// JSON as Go writes it: `<`, `>` and `&` escaped, so that it can stand in HTML.
pub fn go_json(value: &Value) -> String {
    let text = value.to_string();
    // These bytes occur in JSON only inside strings.
    text.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

fn inner(value: &Value) -> String {
    match value {
        // The members of Go's sets (exposed ports, volumes) are empty structures.
        Value::Object(fields) if fields.is_empty() => "{}".to_owned(),
        other => show(other),
    }
}

fn join(parts: impl Iterator<Item = String>, with: &str) -> String {
    parts.collect::<Vec<_>>().join(with)
}

/// Looks a field up: exactly, else without case (`ID` finds `Id`), else as nothing where any key is possible.
fn field(value: &Value, name: &str, path: &str) -> Result<Value, TemplateError> {
    let missing = || TemplateError::NoField(path.to_owned());
    let fields = value.as_object().ok_or_else(missing)?;
    if let Some(found) = fields.get(name) {
        return Ok(found.clone());
    }
    if let Some((_, found)) = fields.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)) {
        return Ok(found.clone());
    }
    if is_open(path) || OPTIONAL.contains(&name) {
        return Ok(Value::Null);
    }
    Err(missing())
}

/// Whether a path leads into a map whose keys are anything.
fn is_open(path: &str) -> bool {
    const OPEN: [&str; 7] = [
        "Attributes.",
        "Labels.",
        "Options.",
        "Annotations.",
        "Networks.",
        "Ports.",
        "Sysctls.",
    ];
    OPEN.iter().any(|map| path.contains(map))
}

/// Fields the API leaves out where there is nothing to say; a typed client finds nothing there, not a mistake.
const OPTIONAL: [&str; 22] = [
    "Annotations",
    "ClusterVolume",
    "Domainname",
    "ExposedPorts",
    "GraphDriver",
    "Health",
    "Healthcheck",
    "IPAMConfig",
    "ImageManifestDescriptor",
    "Init",
    "Labels",
    "MacAddress",
    "OnBuild",
    "Options",
    "Shell",
    "SizeRootFs",
    "SizeRw",
    "StopSignal",
    "StopTimeout",
    "StorageOpt",
    "Sysctls",
    "Volumes",
];

/// What an action prints: a key that a map does not have reads otherwise than a field that is empty.
fn print_action(pipeline: &Pipeline, value: &Value) -> String {
    let path = match &pipeline.commands[..] {
        [command] => match &command[..] {
            [Operand::Field(path)] => format!(".{}", path.join(".")),
            _ => String::new(),
        },
        _ => String::new(),
    };
    if value.is_null() && is_open(&path) {
        "<no value>".to_owned()
    } else {
        show(value)
    }
}

impl Scope<'_> {
    fn nodes(&mut self, nodes: &[Node], out: &mut String) -> Result<Flow, TemplateError> {
        for node in nodes {
            let flow = match node {
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
                Node::Text(text) => {
                    out.push_str(text);
                    Flow::On
                }
                Node::Action(pipeline) => {
                    out.push_str(&print_action(pipeline, &self.pipeline(pipeline)?));
                    Flow::On
                }
                Node::Assign(name, pipeline) => {
                    let value = self.pipeline(pipeline)?;
                    let mut known = self.variables.iter_mut().rev();
                    let variable = known.find(|(other, _)| other == name);
                    let variable = variable.ok_or_else(|| undefined(name))?;
                    variable.1 = value;
                    Flow::On
                }
                Node::Set(name, pipeline) => {
                    let value = self.pipeline(pipeline)?;
                    self.variables.push((name.clone(), value));
                    Flow::On
                }
                Node::If(pipeline, then, otherwise) => {
                    let branch = if truth(&self.pipeline(pipeline)?) {
                        then
                    } else {
                        otherwise
                    };
                    self.nodes(branch, out)?
                }
                Node::With(pipeline, then, otherwise) => {
                    let value = self.pipeline(pipeline)?;
                    if truth(&value) {
                        self.inside(&value, &[], then, out)?
                    } else {
                        self.nodes(otherwise, out)?
                    }
                }
                Node::Range {
                    variables,
                    over,
                    body,
                    otherwise,
                } => {
                    let over = self.pipeline(over)?;
                    self.range(&over, variables, body, otherwise, out)?
                }
            };
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn inside(
        &mut self,
        dot: &Value,
        variables: &[(String, Value)],
        nodes: &[Node],
        out: &mut String,
    ) -> Result<Flow, TemplateError> {
        let outer = self.variables.len();
        let mut scope = Scope {
            kind: self.kind,
            root: self.root,
            dot,
            variables: self.variables.clone(),
        };
        scope.variables.extend_from_slice(variables);
        let flow = scope.nodes(nodes, out)?;
        // Those of outside may have been given other values.
        scope.variables.truncate(outer);
        self.variables = scope.variables;
        Ok(flow)
    }

    fn range(
        &mut self,
        over: &Value,
        names: &[String],
        body: &[Node],
        otherwise: &[Node],
        out: &mut String,
    ) -> Result<Flow, TemplateError> {
        let items: Vec<(Value, &Value)> = match over {
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(i, v)| (i.into(), v))
                .collect(),
            Value::Object(fields) => {
                let mut items: Vec<_> = fields.iter().collect();
                items.sort_by_key(|(key, _)| key.as_str());
                items
                    .into_iter()
                    .map(|(k, v)| (k.as_str().into(), v))
                    .collect()
            }
            _ => Vec::new(),
        };
        if items.is_empty() {
            return self.nodes(otherwise, out);
        }
        for (key, value) in items {
            let bound: Vec<_> = match names {
                [] => Vec::new(),
                [one] => vec![(one.clone(), value.clone())],
                [index, element, ..] => {
                    vec![(index.clone(), key), (element.clone(), value.clone())]
                }
            };
            if self.inside(value, &bound, body, out)? == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn pipeline(&self, pipeline: &Pipeline) -> Result<Value, TemplateError> {
        let mut piped: Option<Value> = None;
        for command in &pipeline.commands {
            let (first, rest) = command
                .split_first()
                .ok_or_else(|| TemplateError::Syntax("an empty command".to_owned()))?;
            let mut arguments = Vec::with_capacity(rest.len() + 1);
            for operand in rest {
                arguments.push(self.operand(operand)?);
            }
            arguments.extend(piped.take());
            piped = Some(match first {
                Operand::Function(name) if self.kind == Kind::Headings => {
                    functions::call_on_heading(name, &arguments)?
                }
                Operand::Function(name)
                    if name == "json"
                        && self.kind == Kind::Row
                        && arguments.first() == Some(self.root) =>
                {
                    go_json(self.root).into()
                }
                Operand::Function(name) => functions::call(name, &arguments)?,
                Operand::Field(path) if path.last().is_some_and(|f| f == "Label") => {
                    functions::label(self.dot, &arguments)?
                }
                operand if arguments.is_empty() => self.operand(operand)?,
                operand => {
                    return Err(TemplateError::Unsupported(format!(
                        "arguments for {operand:?}"
                    )));
                }
            });
        }
        piped.ok_or_else(|| TemplateError::Syntax("an empty action".to_owned()))
    }

    fn operand(&self, operand: &Operand) -> Result<Value, TemplateError> {
        let walk = |from: Value, path: &[String]| {
            let whole = format!(".{}", path.join("."));
            path.iter()
                .try_fold(from, |value, name| field(&value, name, &whole))
        };
        match operand {
            Operand::Field(path) => walk(self.dot.clone(), path),
            Operand::Variable(name, path) if name.is_empty() => walk(self.root.clone(), path),
            Operand::Variable(name, path) => {
                let found = self.variables.iter().rev().find(|(n, _)| n == name);
                let (_, value) = found.ok_or_else(|| undefined(name))?;
                walk(value.clone(), path)
            }
            Operand::Literal(value) => Ok(value.clone()),
            Operand::Group(pipeline, path) => walk(self.pipeline(pipeline)?, path),
            Operand::Function(name) => functions::call(name, &[]),
        }
    }
}

#[cfg(test)]
mod tests;
