//! The engine's own log: as text or as one object a line. Level, form and colours are changed by a reload.

use std::io::IsTerminal;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{self, FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, SpanRef};
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use super::settings::{LogFormat, Settings};

/// What is logged is decided first, how it is written after that.
type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;
type Form = Box<dyn Layer<Filtered> + Send + Sync>;

/// What of the log can change while it is written.
pub(super) struct Log {
    /// `None` where `HOIST_LOG` wins over every other word on it.
    filter: Option<Handle<EnvFilter, Registry>>,
    form: Handle<Form, Filtered>,
}

/// Starts logging.
pub(super) fn start(settings: &Settings) -> Log {
    let told = EnvFilter::try_from_env("HOIST_LOG").ok();
    let is_free = told.is_none();
    let filter = told.unwrap_or_else(|| EnvFilter::new(settings.log_filter()));
    let (filter, filter_handle) = reload::Layer::new(filter);
    let (form, form_handle) = reload::Layer::new(form(settings));
    Registry::default().with(filter).with(form).init();
    for flag in &settings.ignored {
        if flag.contains("userland-proxy") {
            tracing::info!(%flag, "there is no proxy process: what the kernel cannot translate is relayed by the engine itself");
        } else {
            tracing::warn!(%flag, "has no meaning here and is ignored");
        }
    }
    Log {
        filter: is_free.then_some(filter_handle),
        form: form_handle,
    }
}

impl Log {
    /// Logs as these settings say from now on.
    pub(super) fn renew(&self, settings: &Settings) {
        if let Some(filter) = &self.filter
            && let Err(error) = filter.reload(EnvFilter::new(settings.log_filter()))
        {
            tracing::warn!(%error, "the log level stays");
        }
        if let Err(error) = self.form.reload(form(settings)) {
            tracing::warn!(%error, "the form of the log stays");
        }
    }
}

fn form(settings: &Settings) -> Form {
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        // A journal or a file is read by programs, too.
        .with_ansi(!settings.raw_logs && std::io::stderr().is_terminal());
    match settings.log_format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .map_event_format(Objects)
            .boxed(),
    }
}

/// One object a line, also within spans that were entered while the log was text: of those the fields are not known in this
/// form, and the formatter below takes spans without any for a broken invariant.
struct Objects(Format<Json>);

impl<S> FormatEvent<S, JsonFields> for Objects
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result
    where
        JsonFields: for<'a> FormatFields<'a>,
    {
        let of_event = context.event_scope().into_iter().flatten();
        let current = context.lookup_current();
        let entered = current.iter().flat_map(SpanRef::scope);
        for span in of_event.chain(entered) {
            let is_known = span
                .extensions()
                .get::<FormattedFields<JsonFields>>()
                .is_some();
            if !is_known {
                let none = FormattedFields::<JsonFields>::new("{}".to_owned());
                span.extensions_mut().insert(none);
            }
        }
        self.0.format_event(context, writer, event)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_span_from_before_the_change_is_in_a_line_of_after_it() {
        let (text, json) = (Written::default(), Written::default());
        let text_layer: Box<dyn Layer<Registry> + Send + Sync> = {
            let text = text.clone();
            fmt::layer()
                .with_ansi(false)
                .with_writer(move || text.clone())
                .boxed()
        };
        let (layer, handle) = reload::Layer::new(text_layer);
        let subscriber = Registry::default().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let outer = tracing::info_span!("outer", number = 1);
            let _outer = outer.enter();
            tracing::info!("before");
            let written = json.clone();
            let objects = fmt::layer()
                .with_writer(move || written.clone())
                .json()
                .flatten_event(true)
                .map_event_format(Objects);
            handle.reload(objects.boxed()).unwrap();
            let inner = tracing::info_span!("inner", number = 2);
            let _inner = inner.enter();
            // What is recorded later belongs to it in the present form.
            tracing::info!("after");
        });
        let told = |written: &Written| {
            let bytes = written.0.lock().unwrap().clone();
            String::from_utf8(bytes).unwrap()
        };
        assert!(told(&text).ends_with("before\n"), "{}", told(&text));
        let line: serde_json::Value = serde_json::from_str(&told(&json)).unwrap();
        assert_eq!(line["message"], "after");
        assert_eq!(line["spans"][0]["name"], "outer");
        assert_eq!(line["spans"][1]["number"], 2);
    }
}
