//! Which country codes exist.

use super::source::{Sources, Span};
use crate::model::Country;

/// The assigned codes of ISO 3166-1 alpha-2, and `EU`, `AP` and `XK`, which databases use beside them.
const ASSIGNED: &str = "\
AD AE AF AG AI AL AM AO AP AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ \
CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET EU FI FJ FK FM FO \
FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM \
JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ \
MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE \
RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT \
TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW";

/// Warns of a code that surely no database has.
pub(super) fn warn_unless_assigned(sources: &mut Sources, at: Span, country: Country) {
    if exists(country) {
        return;
    }
    let message =
        format!("`{country}` is not in ISO 3166-1: no address matches unless the country database uses it");
    sources.warning(at, "unknown-country", message).help = advice(country);
}

/// What was probably meant by a code that matches nothing.
pub(super) fn advice(country: Country) -> Option<String> {
    meant(country).map(|(code, name)| format!("the code of {name} is {code}"))
}

/// Whether a database can know the code.
fn exists(country: Country) -> bool {
    ASSIGNED.split(' ').any(|code| code == country.as_str())
}

/// The code that was probably meant by one that does not exist.
fn meant(country: Country) -> Option<(&'static str, &'static str)> {
    Some(match country.as_str() {
        "EL" => ("GR", "Greece"),
        "EN" => ("GB", "the United Kingdom"),
        "SU" => ("RU", "Russia"),
        "YU" | "CS" => ("RS", "Serbia"),
        "TP" => ("TL", "Timor-Leste"),
        "ZR" => ("CD", "the Democratic Republic of the Congo"),
        "BU" => ("MM", "Myanmar"),
        "KS" => ("XK", "Kosovo"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_united_kingdom_is_one_country() {
        assert_eq!(Country::new("uk"), Country::new("GB"));
        assert!(exists(Country::new("UK").expect("two letters")));
    }

    #[test]
    fn the_table_is_sorted_and_complete() {
        let codes: Vec<_> = ASSIGNED.split(' ').collect();
        assert!(codes.is_sorted());
        assert!(codes.iter().all(|code| Country::new(code).is_some_and(|c| c.as_str() == *code)));
        // 249 assigned codes and the three beside them.
        assert_eq!(codes.len(), 252);
    }
}
