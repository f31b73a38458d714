// Made by hand: commands that the shipped Redis 7.0 does not have, because they are newer (Redis 7.2 to 8.4,
// Valkey 8 and 9) or gone (STRALGO). A target's own COMMAND reply never overrules these lines: a key must not
// change its lane because the target was upgraded.

export const HANDMADE_SPECS = `
STRALGO -2 movablekeys,readonly ?/?/RO
WAITAOF 4 blocking
CLUSTERSCAN -2 readonly
HEXPIRE -6 denyoom,fast,write i1/r0,1,0/RW
HPEXPIRE -6 denyoom,fast,write i1/r0,1,0/RW
HEXPIREAT -6 denyoom,fast,write i1/r0,1,0/RW
HPEXPIREAT -6 denyoom,fast,write i1/r0,1,0/RW
HPERSIST -5 fast,write i1/r0,1,0/RW
HSETEX -6 denyoom,fast,write i1/r0,1,0/RW
HGETEX -5 fast,write i1/r0,1,0/RW
HGETDEL -5 fast,write i1/r0,1,0/RW
HTTL -5 fast,readonly i1/r0,1,0/RO
HPTTL -5 fast,readonly i1/r0,1,0/RO
HEXPIRETIME -5 fast,readonly i1/r0,1,0/RO
HPEXPIRETIME -5 fast,readonly i1/r0,1,0/RO
DELEX -2 fast,write i1/r0,1,0/RM
DELIFEQ 3 fast,write i1/r0,1,0/RM
DIGEST 2 fast,readonly i1/r0,1,0/RO
MSETEX -4 denyoom,movablekeys,write i1/n0,1,2/OW
XDELEX -5 fast,write i1/r0,1,0/RW
XACKDEL -6 fast,write i1/r0,1,0/RW
XCFGSET -2 fast,write i1/r0,1,0/RW
VADD -5 denyoom,write i1/r0,1,0/RW
VREM 3 write i1/r0,1,0/RW
VSETATTR 4 fast,write i1/r0,1,0/RW
VSIM -4 readonly i1/r0,1,0/RO
VDIM 2 fast,readonly i1/r0,1,0/RO
VCARD 2 fast,readonly i1/r0,1,0/RO
VEMB -3 fast,readonly i1/r0,1,0/RO
VGETATTR 3 fast,readonly i1/r0,1,0/RO
VINFO 2 fast,readonly i1/r0,1,0/RO
VISMEMBER 3 fast,readonly i1/r0,1,0/RO
VLINKS -3 fast,readonly i1/r0,1,0/RO
VRANDMEMBER -2 readonly i1/r0,1,0/RO
VRANGE -4 readonly i1/r0,1,0/RO
`;
