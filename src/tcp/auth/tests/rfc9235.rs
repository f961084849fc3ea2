//! Every test vector of RFC 9235: two connections of BGP speakers for each algorithm, over IPv4 and IPv6, whose MACs
//! cover the other options or do not.

use super::super::ao::{Context, Form, Mkt};
use super::super::inbound::{Found, parse_auth_options};
use super::super::mac::Alg;
use super::{received, unhex};
use crate::sock::skb::Skb;
use crate::wire::addr::Cidr;
use crate::wire::seq::SeqNum;
use crate::wire::tcp::{HEADER_LEN, TcpFlags};
use std::net::IpAddr;

/// RFC 9235 §3.1.
const MASTER_KEY: &[u8] = b"testvector";

/// A section: its number, the algorithm, whether the MAC leaves out the other options. Then its segments in order: SYN,
/// SYN-ACK, data of the client, data of the server. Each has its header in hexadecimal and the traffic key.
type Section = (&'static str, &'static str, bool, [(&'static str, &'static str); 4]);

const SECTIONS: [Section; 8] = [
    (
        "4.1",
        "hmac(sha1)",
        false,
        [
            (
                "e9d700b3fbfbab5a00000000e002ffffcac40000020405b4010303080402080a00155ab7000000001d103d54\
                 2ee437c6f8ede6d7c4d602e7",
                "6d63ef1b02fe1509d4b1402707fd7b0416abb74f",
            ),
            (
                "00b3e9d711c14261fbfbab5be012ffff37760000020405b4010303080402080a84a50beb00155ab71d10543d\
                 eeab0fe24c3010815116b3be",
                "d9e217e4834a80ca2f3fd8de2e41b8e6797fea96",
            ),
            (
                "e9d700b3fbfbab5b11c14262c0180104a16200000101080a00155ac184a50beb1d103d547064cf998cc6c315\
                 c2c2e2bf",
                "d2e59c65ffc7b1a39347656463b70edc24a13d71",
            ),
            (
                "00b3e9d711c14262fbfbab9ec0180100400c00000101080a84a50bf500155ac11d10543da63f0ecbbb2e635c\
                 954deac7",
                "d9e217e4834a80ca2f3fd8de2e41b8e6797fea96",
            ),
        ],
    ),
    (
        "4.2",
        "hmac(sha1)",
        true,
        [
            (
                "ff1200b3cb0efbee00000000e002ffff541f0000020405b4010303080402080a00024cce000000001d103d54\
                 80af3cfeb85368937b8f9ec2",
                "30eaa1560cf0be57dab5c045229fb10a423cd7ea",
            ),
            (
                "00b3ff12acd5b5e1cb0efbefe012ffff388e0000020405b4010303080402080a576772f300024cce1d10543d\
                 09306f9acea63a8c68cb9a70",
                "b5b2896bb3664e8176b0edc6e799524101a8307f",
            ),
            (
                "ff1200b3cb0efbefacd5b5e2c01801046c4500000101080a00024cce576772f31d103d54710608cc696c03a2\
                 71c93aa5",
                "f3db1793d7910ecd806c34f155ea1f00345953e3",
            ),
            (
                "00b3ff12acd5b5e2cb0efc32c018010046b600000101080a576772f300024cce1d10543d97766e48ac262de9\
                 ae61b4f9",
                "b5b2896bb3664e8176b0edc6e799524101a8307f",
            ),
        ],
    ),
    (
        "5.1",
        "cmac(aes128)",
        false,
        [
            (
                "c4fa00b3787a1ddf00000000e002ffff5a0f0000020405b4010303080402080a00017ed0000000001d103d54\
                 e477e99c8040765498e55091",
                "f5b8b3d5f34fdbb6eb8d4ab9660e60e3",
            ),
            (
                "00b3c4fafadd6de9787a1de0e012fffff3f20000020405b4010303080402080a93f4e9e800017ed01d10543d\
                 d6ada7bc4cdd536d1769db5f",
                "4bc7571a486f3264bbd888474066b4b1",
            ),
            (
                "c4fa00b3787a1de0fadd6deac0180104950500000101080a00017ed093f4e9e81d103d5477412742fa4dc433\
                 eff0973e",
                "8c8ae0e8371ec5cbb97ea79d90418391",
            ),
            (
                "00b3c4fafadd6dea787a1e23c0180100e7db00000101080a93f4e9e800017ed01d10543df6d965a78382a748\
                 45f72dac",
                "4bc7571a486f3264bbd888474066b4b1",
            ),
        ],
    ),
    (
        "5.2",
        "cmac(aes128)",
        true,
        [
            (
                "da1c00b3389bed7100000000e002ffff70bf0000020405b4010303080402080a000185e1000000001d103d54\
                 c44e60cb31f7c0b1de3d2749",
                "2cdbae1392c49449fa92c4509735d50e",
            ),
            (
                "00b3da1cd3844a6f389bed72e012ffffe4450000020405b4010303080402080ace459838000185e11d10543d\
                 3a6abb207e49b1be7136db90",
                "3ce67a551869506b6347b633c50a624a",
            ),
            (
                "da1c00b3389bed72d3844a70c0180104885100000101080a000185e1ce4598381d103d547585e9e9d5c3ec85\
                 7b96f837",
                "035bc400a341ffe595f59f58005006ca",
            ),
            (
                "00b3da1cd3844a70389bed72c0180100044900000101080ace459838000185e11d10543d5c040fd923330476\
                 5c0982f4",
                "3ce67a551869506b6347b633c50a624a",
            ),
        ],
    ),
    (
        "6.1",
        "hmac(sha1)",
        false,
        [
            (
                "f7e400b3176a833f00000000e002ffff47210000020405a0010303080402080a0041d087000000001d103d54\
                 9033ec3d7334b64c5edd039f",
                "625ec09d575836edc9b6428418bbf06989a361bb",
            ),
            (
                "00b3f7e43f51994b176a8340e012ffffbfec0000020405a0010303080402080abd33129b0041d0871d10543d\
                 f1cba346c3526163f71f1f55",
                "e4a37ada2a0afca8711434913fe138c771ebcb4a",
            ),
            (
                "f7e400b3176a83403f51994cc0180100329c00000101080a0041d091bd33129b1d103d54bf0805feb4ac7b16\
                 3d6fcdf2",
                "1ed82975f4ea444c61580c5bd90dbd61bbc91b7e",
            ),
            (
                "00b3f7e43f51994c176a8383c0180100ee6e00000101080abd3312a50041d0911d10543d6c48125c11335bab\
                 9a07a797",
                "e4a37ada2a0afca8711434913fe138c771ebcb4a",
            ),
        ],
    ),
    (
        "6.2",
        "hmac(sha1)",
        true,
        [
            (
                "c6cd00b3020c1e6900000000e002ffffa41a0000020405a0010303080402080a009db95b000000001d103d54\
                 885698b0530ed4d5a15f8346",
                "31a3faf69effae52931b7f845467315c270a4edc",
            ),
            (
                "00b3c6cdeba3734d020c1e6ae012ffff774d0000020405a0010303080402080a5ec99b70009db95b1d10543d\
                 3c546bad9743f12df8b8010d",
                "405108947f996575e7bdbc26d40216a2c7fa91bd",
            ),
            (
                "c6cd00b3020c1e6aeba3734ec018010083e600000101080a009db9655ec99b701d103d5448bd093b1924e001\
                 192f5bf0",
                "b34eed6a9396a669f1c4f4f57618f3656f52c7ab",
            ),
            (
                "00b3c6cdeba3734e020c1eadc0180100716a00000101080a5ec99b7a009db9651d10543d559a819445b4fde9\
                 8d9e1317",
                "405108947f996575e7bdbc26d40216a2c7fa91bd",
            ),
        ],
    ),
    (
        "7.1",
        "cmac(aes128)",
        false,
        [
            (
                "f85a00b3193cccec00000000e002ffffde5d0000020405a0010303080402080a13e4ab99000000001d103d54\
                 59b588107481ac6dc3927040",
                "fa5a2108882d39d0c71929175ab1b7b8",
            ),
            (
                "00b3f85aa6744ecb193cccede012ffffeabb0000020405a0010303080402080a71daabc813e4ab991d10543d\
                 dc2843a84e78a6bcfdc5ed80",
                "cf1b1e225e06a63616764a067b46f4b1",
            ),
            (
                "f85a00b3193ccceda6744eccc0180100328000000101080a13e4aba371daabc81d103d547b6a455c0d4f5f01\
                 835baab3",
                "6174c3557abed27574dba37185f00300",
            ),
            (
                "00b3f85aa6744ecc193ccd30c018010052f400000101080a71daabd313e4aba31d10543dc1069b7dfd3d693a\
                 6df3f289",
                "cf1b1e225e06a63616764a067b46f4b1",
            ),
        ],
    ),
    (
        "7.2",
        "cmac(aes128)",
        true,
        [
            (
                "f28800b3b01da74a00000000e002ffff75ff0000020405a0010303080402080a14275b3b000000001d103d54\
                 3d45b4342de8bb1530847898",
                "a94f511263e4093d35dd818c13bbbf53",
            ),
            (
                "00b3f288a6246145b01da74be012ffffa70c0000020405a0010303080402080a1782245b14275b3b1d10543d\
                 1d01f6c87c6f93acffa9d4b5",
                "92dea5bbc78b1d9f5b2952e9cd30642a",
            ),
            (
                "f28800b3b01da74ba6246146c0180100c36d00000101080a14275b4f1782245b1d103d54290cf414ccb47a33\
                 3276e7f8",
                "4fb2086e402c679079ed65d4bf97693d",
            ),
            (
                "00b3f288a6246146b01da78ec0180100345100000101080a1782246514275b4f1d10543d99515ffcd5403499\
                 f619fd1b",
                "92dea5bbc78b1d9f5b2952e9cd30642a",
            ),
        ],
    ),
];

/// The BGP OPEN message that each end sends: AS number and identifier.
fn open(asn: &str, id: &str) -> String {
    let marker = "ff".repeat(16);
    format!(
        "{marker}00430104{asn}00b4{id}2602060104000100010202800002020200020242000206410400{asn:0>6}0208400600640001\
             0100"
    )
}

fn addresses(v6: bool) -> (IpAddr, IpAddr) {
    let addr = |text: &str| text.parse().unwrap();
    if v6 { (addr("fd00::1"), addr("fd00::2")) } else { (addr("10.11.12.13"), addr("172.27.28.29")) }
}

fn segment(section: &str, nth: usize, header: &str) -> Skb {
    let data = match (section.as_bytes()[0], nth) {
        (_, 0 | 1) => String::new(),
        (b'4' | b'5', 2) => open("dabf", "0a0b0c0d"),
        (b'4' | b'5', _) => open("dac0", "ac1b1c1d"),
        (_, 2) => open("fde8", "01010179"),
        (_, _) => open("fde8", "0101017a"),
    };
    received(&unhex(&(header.to_owned() + &data)))
}

#[test]
fn traffic_keys_and_macs_are_those_of_rfc_9235() {
    for (section, name, exclude_opt, rows) in SECTIONS {
        let (client, server) = addresses(matches!(section.as_bytes()[0], b'6' | b'7'));
        let isn = |nth: usize| segment(section, nth, rows[nth].0).tcp.seq;
        let (client_isn, server_isn) = (isn(0), isn(1));
        let (alg, key) = Alg::with_key(name.as_bytes(), MASTER_KEY).unwrap();
        let form = Form { alg, maclen: 12, exclude_opt };
        let mkt = Mkt::new(Cidr::host(server), (61, 84), form, key);
        for (nth, (header, traffic_key)) in rows.into_iter().enumerate() {
            let skb = segment(section, nth, header);
            let (sport, dport) = crate::tcp::rcv::ports(&skb);
            let sent = nth % 2 == 0;
            let (src, dst) = if sent { (client, server) } else { (server, client) };
            let (sisn, disn) = if sent { (client_isn, server_isn) } else { (server_isn, client_isn) };
            let is_syn = nth == 0;
            assert_eq!(skb.tcp.all_flags().contains(TcpFlags::SYN), nth < 2);
            let disn = if is_syn { SeqNum(0) } else { disn };
            let key = mkt.traffic_key(&Context { src, dst, sport, dport, sisn, disn });
            assert_eq!(key.bytes(), unhex(traffic_key), "{section} {nth}");
            let Ok(Found::Ao(h)) = parse_auth_options(crate::tcp::rcv::option_bytes(&skb)) else { panic!("{nth}") };
            assert_eq!((h.keyid, h.rnext, h.maclen), if sent { (61, 84, 12) } else { (84, 61, 12) });
            let at = HEADER_LEN + h.at;
            let mac = form.hash_skb(&key, &skb, skb.tcp.header_len(), at, 0, (src, dst));
            assert_eq!(mac.bytes()[..12], skb.linear()[at..at + 12], "{section} {nth}");
            // The extension of the sequence number is a part of the message.
            let other = form.hash_skb(&key, &skb, skb.tcp.header_len(), at, 1, (src, dst));
            assert_ne!(other, mac);
        }
    }
}
