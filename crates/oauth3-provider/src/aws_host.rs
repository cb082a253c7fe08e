//! Which service and region of AWS a host is of.

use oauth3_core::Host;

const DOMAINS: [&str; 2] = [".amazonaws.com", ".amazonaws.com.cn"];

/// Service and region, as signatures name them, by one rule and no table: the label before the domain is the region,
/// and the one before that the service: `SERVICE.REGION.amazonaws.com`, whatever else comes before it, as a bucket
/// does (`BUCKET.s3.REGION.amazonaws.com`). `None` for a host that is not named so, such as one for all regions. A few
/// services sign under another name than their host's; that must be said.
#[must_use]
pub fn aws_service_and_region(host: &Host) -> Option<(String, String)> {
    let labels = DOMAINS.iter().find_map(|domain| host.name().strip_suffix(domain))?;
    let mut labels = labels.rsplit('.');
    let (region, service) = (labels.next()?, labels.next()?);
    let word = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    // `eu-central-1`, `us-gov-west-1`: words and a number.
    let (place, number) = region.rsplit_once('-')?;
    let is_region =
        place.contains('-') && word(place) && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    (is_region && word(service)).then(|| (service.to_owned(), region.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_and_region_stand_before_the_domain() {
        for (host, expected) in [
            ("sts.eu-central-1.amazonaws.com", Some(("sts", "eu-central-1"))),
            ("s3.us-east-1.amazonaws.com", Some(("s3", "us-east-1"))),
            ("files.s3.us-east-1.amazonaws.com", Some(("s3", "us-east-1"))),
            ("my.files.s3.us-gov-west-1.amazonaws.com", Some(("s3", "us-gov-west-1"))),
            ("abc123.execute-api.ap-southeast-2.amazonaws.com", Some(("execute-api", "ap-southeast-2"))),
            ("s3.cn-north-1.amazonaws.com.cn", Some(("s3", "cn-north-1"))),
            ("iam.amazonaws.com", None),
            ("files.s3.amazonaws.com", None),
            ("eu-central-1.amazonaws.com", None),
            ("amazonaws.com", None),
            ("sts.eu-central-1.amazonaws.com.evil.example", None),
            ("sts.eu-central-1.evil.example", None),
        ] {
            let found = aws_service_and_region(&Host::parse(host).unwrap());
            let found = found.as_ref().map(|(service, region)| (service.as_str(), region.as_str()));
            assert_eq!(found, expected, "{host}");
        }
    }
}
