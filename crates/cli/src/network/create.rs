//! `network create`: ranges, gateways and auxiliary addresses find their subnet by what it contains, as the stock client does
//! it (docker/cli: cli/command/network/create.go).

use std::net::IpAddr;

use clap::Args;
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::spec::key_values;
use crate::{Context, Failure, Run, output};

/// `network create`.
#[derive(Args, Debug)]
pub(super) struct Create {
    /// Enable manual container attachment
    #[arg(long)]
    attachable: bool,
    /// Auxiliary IPv4 or IPv6 addresses used by Network driver
    #[arg(long, value_name = "map")]
    aux_address: Vec<String>,
    /// The network from which to copy the configuration
    #[arg(long, value_name = "string")]
    config_from: Option<String>,
    /// Create a configuration only network
    #[arg(long)]
    config_only: bool,
    /// Driver to manage the Network
    #[arg(short, long, value_name = "string", default_value = "bridge")]
    driver: String,
    /// IPv4 or IPv6 Gateway for the master subnet
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    gateway: Vec<String>,
    /// Create swarm routing-mesh network
    #[arg(long)]
    ingress: bool,
    /// Restrict external access to the network
    #[arg(long)]
    internal: bool,
    /// Allocate container ip from a sub-range
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    ip_range: Vec<String>,
    /// IP Address Management Driver
    #[arg(long, value_name = "string", default_value = "default")]
    ipam_driver: String,
    /// Set IPAM driver specific options
    #[arg(long, value_name = "map")]
    ipam_opt: Vec<String>,
    /// Enable or disable IPv4 address assignment
    #[arg(long, value_name = "bool", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ipv4: Option<bool>,
    /// Enable or disable IPv6 address assignment
    #[arg(long, value_name = "bool", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ipv6: Option<bool>,
    /// Set metadata on a network
    #[arg(long, value_name = "list")]
    label: Vec<String>,
    /// Set driver specific options
    #[arg(short, long, value_name = "map")]
    opt: Vec<String>,
    /// Control the network's scope
    #[arg(long, value_name = "string")]
    scope: Option<String>,
    /// Subnet in CIDR format that represents a network segment
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    subnet: Vec<String>,
    /// Its name
    #[arg(value_name = "NETWORK")]
    name: String,
}

impl Run for Create {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let mut body = json!({
            "Name": self.name, "Driver": self.driver, "Internal": self.internal,
            "Attachable": self.attachable, "Ingress": self.ingress,
            "ConfigOnly": self.config_only, "Options": key_values(&self.opt),
            "Labels": key_values(&self.label),
            "IPAM": {"Driver": self.ipam_driver, "Options": key_values(&self.ipam_opt), "Config": self.pools()?},
        });
        let flags = [("EnableIPv4", self.ipv4), ("EnableIPv6", self.ipv6)];
        for (field, value) in flags {
            if let Some(value) = value {
                body[field] = value.into();
            }
        }
        if let Some(network) = &self.config_from {
            body["ConfigFrom"] = json!({ "Network": network });
        }
        if let Some(scope) = &self.scope {
            body["Scope"] = scope.as_str().into();
        }
        let call = context.client()?.post("/networks/create").json(&body);
        let created: Value = call.send().await?.json().await?;
        output::line(created["Id"].as_str().unwrap_or_default())?;
        Ok(0)
    }
}

impl Create {
    fn pools(&self) -> Result<Vec<Value>, Failure> {
        let (subnets, ranges, gateways) = (&self.subnet, &self.ip_range, &self.gateway);
        if subnets.len() < ranges.len() || subnets.len() < gateways.len() {
            return Err(Failure::new(
                "every ip-range or gateway must have a corresponding subnet",
            ));
        }
        let mut nets: Vec<IpNet> = Vec::new();
        let mut pools = Vec::new();
        for text in subnets {
            let net: IpNet = text
                .parse()
                .map_err(|_| Failure::new(format!("invalid CIDR address: {text}")))?;
            let overlaps =
                |other: &&IpNet| other.contains(&net.network()) || net.contains(&other.network());
            if nets.iter().any(|other| overlaps(&other)) {
                return Err(Failure::new(
                    "multiple overlapping subnet configuration is not supported",
                ));
            }
            nets.push(net);
            pools.push(json!({ "Subnet": text }));
        }
        let mut put = |what: &str, field: &str, text: &str, address: Option<IpAddr>| {
            let address = address.ok_or_else(|| Failure::new(format!("invalid {what}: {text}")))?;
            let at = nets.iter().position(|net| net.contains(&address));
            let at =
                at.ok_or_else(|| Failure::new(format!("no matching subnet for {what} {text}")))?;
            let own = &mut pools[at][field];
            if let Some(other) = own.as_str() {
                return Err(Failure::new(format!(
                    "cannot configure multiple {what}s ({text}, {other}) on the same subnet ({})",
                    nets[at]
                )));
            }
            *own = text.into();
            Ok(())
        };
        for text in ranges {
            let net = text.parse::<IpNet>().ok();
            put("range", "IPRange", text, net.map(|net| net.network()))?;
        }
        for text in gateways {
            put("gateway", "Gateway", text, text.parse().ok())?;
        }
        for item in &self.aux_address {
            let (name, text) = item.split_once('=').unwrap_or((item.as_str(), ""));
            let address: IpAddr = text
                .parse()
                .map_err(|_| Failure::new(format!("invalid aux-address: {text}")))?;
            let at = nets.iter().position(|net| net.contains(&address));
            let at = at.ok_or_else(|| {
                Failure::new(format!("no matching subnet for aux-address {text}"))
            })?;
            pools[at]["AuxiliaryAddresses"][name] = text.into();
        }
        Ok(pools)
    }
}
