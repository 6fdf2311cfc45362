//! Lists of objects in the formats `--format` knows: table, `table TEMPLATE`, `json`, `TEMPLATE`.

use serde_json::Value;

use super::table::align;
use super::template::{Template, TemplateError, go_json};

/// Rows and how to show them.
pub struct Listing {
    /// Each field a template may name and its column's heading.
    pub headings: &'static [(&'static str, &'static str)],
    /// The template of the plain table.
    pub table: &'static str,
    /// One JSON object per row.
    pub rows: Vec<Value>,
}

fn unescape(format: &str) -> String {
    format.replace("\\t", "\t").replace("\\n", "\n")
}

impl Listing {
    /// The text to print.
    pub fn render(&self, format: Option<&str>) -> Result<String, TemplateError> {
        let format = format.filter(|f| !f.is_empty()).unwrap_or("table");
        if format == "json" {
            return Ok(self.rows.iter().map(|row| go_json(row) + "\n").collect());
        }
        let (is_table, template) = match format.strip_prefix("table") {
            Some("") => (true, self.table),
            Some(rest) if rest.starts_with([' ', '\t']) => (true, rest.trim_start()),
            _ => (false, format),
        };
        let template = Template::parse(&unescape(template))?;
        let mut out = String::new();
        let headings = self.headings.iter();
        let headings = headings.map(|(field, text)| ((*field).to_owned(), (*text).into()));
        let headings = Value::Object(headings.collect());
        if is_table {
            out += &template.render_headings(&headings)?;
            out.push('\n');
        } else if self.rows.is_empty()
            && let Err(error @ TemplateError::NoField(_)) = template.render(&headings)
        {
            // Wrong also while there is nothing to show.
            return Err(error);
        }
        for row in &self.rows {
            out += &template.render_row(row)?;
            out.push('\n');
        }
        Ok(if is_table { align(&out) } else { out })
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn each_format_shows_the_same_rows() {
        let listing = Listing {
            headings: &[("Driver", "DRIVER"), ("Name", "VOLUME NAME")],
            table: "{{.Driver}}\t{{.Name}}",
            rows: vec![json!({"Driver": "local", "Name": "data"})],
        };
        let show = |format| listing.render(format).unwrap();
        expect![[r#"
            DRIVER    VOLUME NAME
            local     data
        "#]]
        .assert_eq(&show(None));
        expect![[r#"
            VOLUME NAME   DRIVER
            data          local
        "#]]
        .assert_eq(&show(Some("table {{.Name}}\\t{{.Driver}}")));
        assert_eq!(
            show(Some("json")),
            "{\"Driver\":\"local\",\"Name\":\"data\"}\n"
        );
        assert_eq!(show(Some("{{.Name}}!")), "data!\n");
        assert!(listing.render(Some("{{.Nope}}")).is_err());
    }
}
