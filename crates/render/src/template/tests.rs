//! Templates as people write them, and what docker prints of them.

use serde_json::json;

use super::*;

fn check(template: &str, expected: &str) {
    let object = json!({
        "Id": "4c01", "Name": "/web", "Size": 42, "Running": true, "Health": null, "Set": {"80/tcp": {}},
        "Args": ["a", "b"],
        "Config": {"Labels": {"tier": "front"}, "Env": ["A=1", "B=2"]},
        "NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}},
    });
    let shown = Template::parse(template)
        .and_then(|t| t.render(&object))
        .unwrap_or_else(|e| format!("error: {e}"));
    assert_eq!(shown, expected, "{template}");
}

#[test]
fn what_people_write_after_f() {
    check("{{.Name}} {{.Size}} {{.Running}}", "/web 42 true");
    check("{{.ID}}", "4c01");
    check(
        "{{.Health}} {{.SizeRw}} {{.Set}}",
        "<nil> <nil> map[80/tcp:{}]",
    );
    check("{{index .Config.Labels \"none\"}}", "");
    check("{{json .Config.Env}}", r#"["A=1","B=2"]"#);
    check(
        "{{.Config.Env}} {{.Config.Labels}}",
        "[A=1 B=2] map[tier:front]",
    );
    check("{{range .Config.Env}}{{println .}}{{end}}", "A=1\nB=2\n");
    check("{{range $i, $e := .Args}}{{$i}}={{$e}} {{end}}", "0=a 1=b ");
    check("{{if .Running}}up{{else}}down{{end}}", "up");
    check("{{if eq .Size 42}}{{- \"yes\" -}} {{end}}", "yes");
    check("{{with .Health}}{{.Status}}{{else}}none{{end}}", "none");
    check("{{index .Config.Labels \"tier\"}}", "front");
    check("{{.Config.Labels.nope}}", "<no value>");
    check(
        "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}",
        "8080",
    );
    check(
        "{{range $p, $c := .NetworkSettings.Ports}}{{$p}}->{{(index $c 0).HostPort}}{{end}}",
        "80/tcp->8080",
    );
    check(
        "{{join .Args \",\"}} {{upper .Id}} {{len .Args}}",
        "a,b 4C01 2",
    );
    check("{{printf \"%s-%d\" .Id .Size}}", "4c01-42");
    check("{{.Name | json}}", "\"/web\"");
    check("{{json \"<&>\"}}", "\"<&>\"");
    check("{{if not .Health}}{{$.Id}}{{end}}", "4c01");
    check("{{/* nothing */}}x", "x");
    check(
        "{{if and .Running (gt .Size 41)}}a{{else if .Id}}b{{end}}",
        "a",
    );
}

#[test]
fn every_function_of_dockers_does_what_it_does_there() {
    // As docker 28.2 prints them.
    check("{{pad \"x\" 2 1}}|{{pad \"\" 2 1}}|", "  x ||");
    check("{{title \"ab cd-e f_g 1x\"}}", "Ab Cd-E F_g 1x");
    check("{{truncate \"abc\" 2}} {{truncate \"abc\" 9}}", "ab abc");
    check(
        "{{slice \"abcdef\" 1 3}} {{slice .Args 1}} {{slice .Id 2}}",
        "bc [b] 01",
    );
    check("{{print 1 2 \"a\" \"b\" 3}}", "1 2ab3");
    check("{{println 1 \"a\"}}", "1 a\n");
    check(
        "{{printf \"%x %q %v %05d %+d %U %c\" 255 \"a\\\"b\" true 42 7 65 65}}",
        "ff \"a\\\"b\" true 00042 +7 U+0041 A",
    );
    check(
        "{{printf \"%-4s|%4s|%.2s\" \"a\" \"b\" \"cde\"}}",
        "a   |   b|cd",
    );
    check(
        "{{printf \"%d %s\" \"a\"}}{{printf \"x\" 1}}",
        "%!d(string=a) %!s(MISSING)x%!(EXTRA int=1)",
    );
    check(
        "{{html \"<a&\\\"x>\"}} {{urlquery \"a b&c\"}}",
        "&lt;a&amp;&#34;x&gt; a+b%26c",
    );
    check("{{js \"a<b\"}}", "a\\u003Cb");
    check(
        "{{join (split \"a,b\" \",\") \"+\"}} {{index (split \"a,b\" \",\") 1}}",
        "a+b b",
    );
    check("{{eq 1 2 1}} {{and 1 0}} {{or 0 \"x\"}}", "true 0 x");
    check(
        "{{len \"abc\"}} {{lower \"AB\"}} {{upper \"ab\"}}",
        "3 ab AB",
    );
    check(
        "{{range $i, $e := .Args}}{{if eq $i 0}}{{continue}}{{end}}{{$e}}{{end}}",
        "b",
    );
    check("{{range .Args}}{{.}}{{break}}{{end}}", "a");
    check("{{$x := 1}}{{$x = 2}}{{$x}}", "2");
    check("{{with .Health}}a{{else with .Id}}{{.}}{{end}}", "4c01");
}

#[test]
fn headings_stay_and_whole_rows_are_written_for_html() {
    let template = Template::parse("{{lower .Name}} {{json .Name}} {{truncate .Name 1}}").unwrap();
    let row = json!({"Name": "A<B"});
    assert_eq!(template.render_headings(&row).unwrap(), "A<B A<B A<B");
    assert_eq!(template.render_row(&row).unwrap(), "a<b \"A<B\" A");
    let whole = Template::parse("{{json .}}").unwrap();
    assert_eq!(whole.render_row(&row).unwrap(), "{\"Name\":\"A\\u003cB\"}");
    assert_eq!(whole.render(&row).unwrap(), "{\"Name\":\"A<B\"}");
}

#[test]
fn what_is_wrong_is_said() {
    check(
        "{{.Nope}}",
        "error: the template's field \".Nope\" is not there",
    );
    check("{{.Name", "error: invalid template: \"{{\" is not closed");
    check(
        "{{range .Args}}",
        "error: invalid template: {{range}} without {{end}}",
    );
    check(
        "{{call .Id}}",
        "error: unsupported in templates: function \"call\"",
    );
    check(
        "{{template \"x\"}}",
        "error: unsupported in templates: \"template\"",
    );
}
