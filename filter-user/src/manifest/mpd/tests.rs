//! What is written into a DASH manifest, and what is not.

use super::{
    super::reference::{Form, tests::carrier},
    *,
};

fn text(before: &str) -> String {
    let carrier = carrier(Form::Query);
    let after = carry(&carrier, before.as_bytes()).unwrap().unwrap_or_else(|| before.to_owned());
    assert_eq!(carry(&carrier, after.as_bytes()), Ok(None), "and only once");
    after
}

#[test]
fn every_reference_of_a_manifest_gets_the_token() {
    let before = r#"<?xml version="1.0" encoding="utf-8"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" xmlns:xlink="http://www.w3.org/1999/xlink" type="dynamic">
  <!-- SegmentTemplate media="comment.m4s" -->
  <Location> http://tv.example/cam/live.mpd?a=1&amp;b=2 </Location>
  <PatchLocation ttl="60">patch.mpp</PatchLocation>
  <BaseURL>folder/</BaseURL>
  <Period id='1' xlink:href="period.xml">
    <AdaptationSet mimeType="video/mp4">
      <SegmentTemplate timescale="1" media="$RepresentationID$/$Number%05d$.m4s" initialization='i-$Bandwidth$.mp4'/>
      <Representation id="video=1" bandwidth="1"/>
      <Representation id="2"><BaseURL>file.mp4?x=1&#38;y</BaseURL><SegmentBase indexRange="0-1"><Initialization range="0-1"/></SegmentBase></Representation>
      <Representation id="3"><SegmentList><Initialization sourceURL="/cam/i.mp4"/><SegmentURL media="1.m4s" mediaRange="0-1" index="1.sidx"/></SegmentList></Representation>
    </AdaptationSet>
  </Period>
  <UTCTiming schemeIdUri="urn:mpeg:dash:utc:http-iso:2014" value="/cam/time"/>
</MPD>
"#;
    let after = before
        .replace("b=2 </L", "b=2&amp;token=a%20b </L")
        .replace("patch.mpp", "patch.mpp?token=a%20b")
        .replace("period.xml", "period.xml?token=a%20b")
        .replace("%05d$.m4s", "%05d$.m4s?token=a%20b")
        .replace("$.mp4", "$.mp4?token=a%20b")
        .replace("x=1&#38;y", "x=1&amp;y&amp;token=a%20b")
        .replace("/cam/i.mp4", "/cam/i.mp4?token=a%20b")
        .replace("\"1.m4s", "\"1.m4s?token=a%20b")
        .replace("1.sidx", "1.sidx?token=a%20b")
        .replace("/cam/time", "/cam/time?token=a%20b");
    assert_eq!(text(before), after);
}

#[test]
fn what_could_leave_the_stream_stays_untouched() {
    let set = |base: &str, template: &str| {
        format!(
            "<MPD><Period><AdaptationSet><SegmentTemplate media=\"{template}\"/><Representation id=\"1\">\
                 </Representation><Representation id=\"2\">{base}</Representation></AdaptationSet></Period>\
                 <Period><BaseURL>./</BaseURL><AdaptationSet><SegmentTemplate media=\"own.m4s\"/></AdaptationSet>\
                 </Period></MPD>"
        )
    };
    for (base, template) in [
        ("<BaseURL>http://cdn.example/cam/</BaseURL>", "$Number$.m4s"),
        ("<BaseURL>./</BaseURL><BaseURL>http://cdn.example/cam/</BaseURL>", "$Number$.m4s"),
        ("<BaseURL>../../other/</BaseURL>", "$Number$.m4s"),
        ("<BaseURL><![CDATA[./]]></BaseURL>", "$Number$.m4s"),
        ("<BaseURL>&unknown;/</BaseURL>", "$Number$.m4s"),
        ("", "http://cdn.example/cam/$Number$.m4s"),
        ("", "../../other/$Number$.m4s"),
        ("", "$Other$.m4s"),
        ("", "$Number.m4s"),
        ("", "&unknown;.m4s"),
        ("", "$Number$.m4s?token=own"),
    ] {
        let before = set(base, template);
        let after = before.replace("own.m4s", "own.m4s?token=a%20b");
        assert_eq!(text(&before), after, "{base} {template}");
    }
    let absolute = set("<BaseURL>http://cdn.example/</BaseURL>", "/cam/$Number$.m4s");
    assert_eq!(text(&absolute), absolute.replace("own.m4s", "own.m4s?token=a%20b"));
    let own = set("<BaseURL>http://cdn.example/</BaseURL>", "http://tv.example/cam/$Number$.m4s");
    assert!(text(&own).contains("$Number$.m4s?token=a%20b"));
    let strange =
        "<MPD><SegmentTemplate media=\"$RepresentationID$.m4s\"/><Representation id=\"../../other/\"/></MPD>";
    assert_eq!(text(strange), strange);
}

#[test]
fn the_media_servers_own_address_leads_here() {
    let before = "<MPD><BaseURL>http://127.0.0.1:8080/cam/</BaseURL><Period><AdaptationSet>\
            <SegmentTemplate media=\"$Number$.m4s\"/></AdaptationSet></Period></MPD>";
    let after = before
        .replace("http://127.0.0.1:8080/cam/", "/cam/")
        .replace("$Number$.m4s", "$Number$.m4s?token=a%20b");
    assert_eq!(text(before), after);
}

#[test]
fn what_is_no_manifest_is_not_read() {
    let deep = "<MPD>".repeat(DEEPEST + 1);
    let wide = format!("<MPD>{}</MPD>", "<Period/>".repeat(30_000));
    for (given, expected) in [
        (&b"<!DOCTYPE MPD [<!ENTITY a \"x\">]><MPD>&a;</MPD>"[..], Unreadable::DocumentType),
        (b"<MPD><!DOCTYPE x></MPD>", Unreadable::DocumentType),
        (b"<MPD>\xff</MPD>", Unreadable::Encoding),
        (b"<?xml version=\"1.0\" encoding=\"utf-16\"?><MPD/>", Unreadable::Encoding),
        (b"<html/>", Unreadable::NotMpd),
        (b"", Unreadable::Broken),
        (b"MPD", Unreadable::Broken),
        (b"<MPD>", Unreadable::Broken),
        (b"<MPD></Period>", Unreadable::Broken),
        (b"<MPD a=b/>", Unreadable::Broken),
        (b"<MPD><BaseURL>x", Unreadable::Broken),
        (deep.as_bytes(), Unreadable::TooComplex),
        (wide.as_bytes(), Unreadable::TooComplex),
    ] {
        let read = carry(&carrier(Form::Query), given);
        assert_eq!(read, Err(expected), "{}", String::from_utf8_lossy(&given[..given.len().min(80)]));
    }
    // Expanding it would take a gigabyte; it is text like any other without its document type.
    let laughs = format!("<MPD><BaseURL>{}</BaseURL></MPD>", "&lol9;".repeat(100_000));
    assert_eq!(carry(&carrier(Form::Query), laughs.as_bytes()), Ok(None));
    let many = format!("<MPD {}/>", (0..50_000).map(|n| format!("a{n}=\"\" ")).collect::<String>());
    assert_eq!(carry(&carrier(Form::Query), many.as_bytes()), Ok(None));
}
