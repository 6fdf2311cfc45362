//! `images --tree`: images and, below each, the platforms that it has here, as version 28.2 of the stock client draws them.

use std::fmt::Write as _;

use hoist_render::human;
use serde_json::Value;

use crate::reference::short;

/// Blanks between two columns.
const SPACING: usize = 3;
/// What is left of the first column before others are left out.
const NARROWEST: usize = 12;

/// How something is shown on a terminal; never given to anything else, but for titles, of which the stock client says it anyhow.
const TITLE: &str = "\x1b[39m\x1b[1m";
const NAME: &str = "\x1b[34m\x1b[1m";
const PLAIN: &str = "\x1b[39m";
const UNTAGGED: &str = "\x1b[39m\x1b[2m";
const AWAY: &str = "\x1b[39m\x1b[2m";
const WARNING: &str = "\x1b[93m";
const NO_STYLE: &str = "";

/// A row: an image, or one of its platforms.
struct Row {
    name: String,
    id: String,
    disk_usage: String,
    content_size: String,
    in_use: bool,
}

/// An image with its platforms, each with whether its layers are here.
struct Image {
    names: Vec<String>,
    row: Row,
    platforms: Vec<(Row, bool)>,
}

#[derive(Clone, Copy)]
struct Column {
    title: &'static str,
    width: usize,
    to_the_right: bool,
    value: fn(&Row, &Screen) -> String,
}

/// What is drawn on.
#[derive(Clone, Copy)]
pub(super) struct Screen {
    /// Its columns, where it is a terminal.
    pub(super) width: Option<usize>,
}

impl Screen {
    fn styled(self, style: &'static str) -> &'static str {
        if self.width.is_some() {
            style
        } else {
            NO_STYLE
        }
    }

    fn columns(self) -> usize {
        self.width.filter(|width| *width > 0).unwrap_or(80).max(20)
    }

    /// The sign of what is in use.
    fn chip(self) -> &'static str {
        match self.width {
            Some(_) => "\x1b[38;5;0m\x1b[48;5;14m U \x1b[0m",
            None => "U",
        }
    }

    fn no_chip(self) -> &'static str {
        if self.width.is_some() { "   " } else { " " }
    }

    fn legend(self) -> String {
        let header = match self.width {
            Some(_) => {
                "\x1b[1m\x1b[106m\x1b[30mi\x1b[0m\x1b[0m \x1b[96mInfo \u{2192} \x1b[0m\x1b[0m"
            }
            None => " Info -> ",
        };
        let legend = format!("{header} {} In Use ", self.chip());
        let blanks = self.columns().saturating_sub(width(&legend));
        format!("{}{legend}", " ".repeat(blanks))
    }
}

/// Draws images as `/images/json?manifests=1` lists them.
pub(super) fn draw(images: &[Value], all: bool, screen: Screen) -> String {
    let shown = images.iter().filter(|image| all || !is_dangling(image));
    let mut shown: Vec<&Value> = shown.collect();
    shown.sort_by_key(|image| std::cmp::Reverse(image["Created"].as_i64()));
    let images: Vec<Image> = shown.into_iter().map(image).collect();
    let columns = columns(&images, screen);
    let mut out = String::new();
    let warning = "WARNING: This is an experimental feature. The output may change and shouldn't be depended on.";
    let _ = writeln!(out, "{}", paint(screen.styled(WARNING), warning));
    let _ = writeln!(out, "{}\n", screen.legend());
    let titles = columns.iter().map(|column| {
        let title = column.title.to_uppercase();
        cell(column, TITLE, &title)
    });
    let _ = writeln!(
        out,
        "{}",
        titles.collect::<Vec<_>>().join(&" ".repeat(SPACING))
    );
    let spaced = images.iter().any(|image| !image.platforms.is_empty());
    for image in &images {
        if let Some((last, others)) = image.names.split_last() {
            for name in others {
                let name = ellipsis(name, screen.width.unwrap_or(0));
                let _ = writeln!(out, "{}", paint(screen.styled(NAME), &name));
            }
            out += &cell(&columns[0], screen.styled(NAME), last);
        } else {
            out += &cell(&columns[0], screen.styled(UNTAGGED), "<untagged>");
        }
        out += &details(&columns, screen, screen.styled(PLAIN), &image.row);
        if spaced {
            out.push('\n');
        }
        let count = image.platforms.len();
        for (number, (row, available)) in image.platforms.iter().enumerate() {
            let branch = if number + 1 == count {
                "└─ "
            } else {
                "├─ "
            };
            let style = if *available { PLAIN } else { AWAY };
            let style = screen.styled(style);
            out += &cell(&columns[0], style, &format!("{branch}{}", row.name));
            out += &details(&columns, screen, style, row);
            out.push('\n');
        }
        out.push('\n');
    }
    out
}

fn is_dangling(image: &Value) -> bool {
    let is_nothing = |field: &str, nothing: &str| match image[field].as_array() {
        Some(names) => names.is_empty() || (names.len() == 1 && names[0] == nothing),
        None => true,
    };
    is_nothing("RepoTags", "<none>:<none>") && is_nothing("RepoDigests", "<none>@<none>")
}

fn image(image: &Value) -> Image {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let size = |value: &Value| human::size(value.as_u64().unwrap_or(0), 3);
    let manifests = image["Manifests"].as_array().into_iter().flatten();
    let (mut content, mut platforms) = (0, Vec::new());
    for manifest in manifests {
        content += manifest["Size"]["Content"].as_u64().unwrap_or(0);
        if manifest["Kind"] != "image" {
            continue;
        }
        let data = &manifest["ImageData"];
        let containers = data["Containers"].as_array();
        let row = Row {
            name: platform(&data["Platform"]),
            id: text(&manifest["ID"]),
            disk_usage: size(&manifest["Size"]["Total"]),
            content_size: size(&manifest["Size"]["Content"]),
            in_use: containers.is_some_and(|containers| !containers.is_empty()),
        };
        let available = manifest["Available"].as_bool().unwrap_or(false);
        platforms.push((row, available));
    }
    let names = image["RepoTags"].as_array().into_iter().flatten();
    let mut names: Vec<String> = names.map(text).collect();
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    let own = image["Containers"].as_i64().unwrap_or(0) > 0;
    Image {
        names,
        row: Row {
            name: String::new(),
            id: text(&image["Id"]),
            disk_usage: size(&image["Size"]),
            content_size: human::size(content, 3),
            in_use: own || platforms.iter().any(|(row, _)| row.in_use),
        },
        platforms,
    }
}

/// `os/arch/variant`, as containerd writes it.
fn platform(platform: &Value) -> String {
    let part = |field: &str| platform[field].as_str().filter(|part| !part.is_empty());
    let Some(os) = part("os") else {
        return "unknown".to_owned();
    };
    let parts = [Some(os), part("architecture"), part("variant")];
    parts.into_iter().flatten().collect::<Vec<_>>().join("/")
}

/// The columns that there is room for.
fn columns(images: &[Image], screen: Screen) -> Vec<Column> {
    let chips = images
        .iter()
        .any(|image| image.platforms.iter().any(|(row, _)| row.in_use));
    let extra: fn(&Row, &Screen) -> String = match chips {
        true => |row, screen| {
            let chip = if row.in_use {
                screen.chip()
            } else {
                screen.no_chip()
            };
            chip.to_owned()
        },
        false => |_, _| String::new(),
    };
    let column = |title, width, to_the_right, value| Column {
        title,
        width,
        to_the_right,
        value,
    };
    let mut columns = vec![
        column("Image", 0, false, |row, _| row.name.clone()),
        column("ID", 12, false, |row, _| short(&row.id).to_owned()),
        column("Disk usage", 10, true, |row, _| row.disk_usage.clone()),
        column("Content size", 12, true, |row, _| row.content_size.clone()),
        column("Extra", 5, false, extra),
    ];
    let mut first = screen.columns();
    let mut count = 1;
    for column in &columns[1..] {
        match first.checked_sub(column.width + SPACING) {
            Some(left) if left >= NARROWEST => first = left,
            _ => break,
        }
        count += 1;
    }
    columns.truncate(count);
    // In bytes, lines of the tree among them, as the stock client counts.
    let names = images.iter().flat_map(|image| {
        let platforms = image.platforms.iter();
        let platforms = platforms.map(|(row, _)| row.name.len() + "└─ ".len());
        image.names.iter().map(String::len).chain(platforms)
    });
    let widest = names.chain(["Image".len()]).max().unwrap_or(0);
    columns[0].width = first.min(widest);
    columns
}

fn details(columns: &[Column], screen: Screen, style: &str, row: &Row) -> String {
    columns[1..].iter().fold(String::new(), |mut out, column| {
        let style = if column.title == "Extra" {
            NO_STYLE
        } else {
            style
        };
        out += &" ".repeat(SPACING);
        out += &cell(column, style, &(column.value)(row, &screen));
        out
    })
}

fn cell(column: &Column, style: &str, text: &str) -> String {
    let Some(blanks) = column.width.checked_sub(width(text)) else {
        return paint(style, &ellipsis(text, column.width));
    };
    let (text, blanks) = (paint(style, text), " ".repeat(blanks));
    match column.to_the_right {
        true => blanks + &text,
        false => text + &blanks,
    }
}

fn paint(style: &str, text: &str) -> String {
    match style {
        NO_STYLE => text.to_owned(),
        style => format!("{style}{text}\x1b[0m"),
    }
}

/// The cells that a text takes, its styles none.
fn width(text: &str) -> usize {
    let mut styled = false;
    let visible = text.chars().filter(|letter| {
        let was = styled;
        styled = *letter == '\x1b' || (styled && *letter != 'm');
        !was && !styled
    });
    visible.count()
}

/// A text without styles of less than so many letters, its end cut off where it has more; 0 cuts nothing.
fn ellipsis(text: &str, length: usize) -> String {
    if length == 0 || text.chars().count() < length {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(length - 1).collect();
    cut.push('\u{2026}');
    cut
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    fn images() -> Vec<Value> {
        let platform = |arch: &str, available: bool, containers: &[&str]| {
            json!({
                "ID": format!("sha256:{}", "ef".repeat(32)), "Kind": "image", "Available": available,
                "Size": {"Total": 5_000_000, "Content": 2_000_000},
                "ImageData": {"Platform": {"os": "linux", "architecture": arch}, "Containers": containers},
            })
        };
        vec![
            json!({"Id": format!("sha256:{}", "ab".repeat(32)), "Created": 1, "Size": 4_269_678,
                "RepoTags": ["busybox:latest", "registry.example/team/busybox:1"],
                "Manifests": [platform("amd64", true, &["one"]), platform("arm64", false, &[])]}),
            json!({"Id": format!("sha256:{}", "cd".repeat(32)), "Created": 2, "Size": 123_456_789,
                "RepoTags": [], "RepoDigests": ["x@sha256:00"]}),
            json!({"Id": format!("sha256:{}", "ee".repeat(32)), "Created": 3, "Size": 1}),
        ]
    }

    #[test]
    fn platforms_are_below_their_image() {
        let drawn = draw(&images(), false, Screen { width: None });
        expect![[r#"
            WARNING: This is an experimental feature. The output may change and shouldn't be depended on.
                                                                          Info ->  U In Use 

            ^[39m^[1mIMAGE^[0m                           ^[39m^[1mID^[0m             ^[39m^[1mDISK USAGE^[0m   ^[39m^[1mCONTENT SIZE^[0m   ^[39m^[1mEXTRA^[0m
            <untagged>                      cdcdcdcdcdcd        123MB             0B        

            registry.example/team/busybox:1
            busybox:latest                  abababababab       4.27MB            4MB   U    
            ├─ linux/amd64                  efefefefefef          5MB            2MB   U    
            └─ linux/arm64                  efefefefefef          5MB            2MB        

        "#]].assert_eq(&drawn.replace('\x1b', "^"));
        let narrow = draw(&images()[..1], false, Screen { width: Some(40) });
        expect![[r#"
            ^[93mWARNING: This is an experimental feature. The output may change and shouldn't be depended on.^[0m
                               ^[1m^[106m^[30mi^[0m^[0m ^[96mInfo → ^[0m^[0m ^[38;5;0m^[48;5;14m U ^[0m In Use 

            ^[39m^[1mIMAGE^[0m          ^[39m^[1mID^[0m             ^[39m^[1mDISK USAGE^[0m
            ^[34m^[1mregistry.example/team/busybox:1^[0m
            ^[34m^[1mbusybox:lat…^[0m   ^[39mabababababab^[0m       ^[39m4.27MB^[0m
            ^[39m├─ linux/am…^[0m   ^[39mefefefefefef^[0m          ^[39m5MB^[0m
            ^[39m^[2m└─ linux/ar…^[0m   ^[39m^[2mefefefefefef^[0m          ^[39m^[2m5MB^[0m

        "#]].assert_eq(&narrow.replace('\x1b', "^"));
    }
}
