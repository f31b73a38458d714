// Made by scripts/command-table.mjs from Redis 7.0.15; do not edit. One line a command, see command-spec.ts.

export const SHIPPED_SPECS = `
ACL -2 -
ACL|CAT -2 loading,noscript,stale
ACL|DELUSER -3 admin,loading,noscript,stale
ACL|DRYRUN -4 admin,loading,noscript,stale
ACL|GENPASS -2 loading,noscript,stale
ACL|GETUSER 3 admin,loading,noscript,stale
ACL|HELP 2 loading,stale
ACL|LIST 2 admin,loading,noscript,stale
ACL|LOAD 2 admin,loading,noscript,stale
ACL|LOG -2 admin,loading,noscript,stale
ACL|SAVE 2 admin,loading,noscript,stale
ACL|SETUSER -3 admin,loading,noscript,stale
ACL|USERS 2 admin,loading,noscript,stale
ACL|WHOAMI 2 loading,noscript,stale
APPEND 3 denyoom,fast,write i1/r0,1,0/RW
ASKING 1 fast
AUTH -2 allow_busy,fast,loading,no_auth,noscript,stale
BGREWRITEAOF 1 admin,no_async_loading,noscript
BGSAVE -1 admin,no_async_loading,noscript
BITCOUNT -2 readonly i1/r0,1,0/RO
BITFIELD -2 denyoom,write i1/r0,1,0/RW
BITFIELD_RO -2 fast,readonly i1/r0,1,0/RO
BITOP -4 denyoom,write i2/r0,1,0/OW i3/r-1,1,0/RO
BITPOS -3 readonly i1/r0,1,0/RO
BLMOVE 6 blocking,denyoom,noscript,write i1/r0,1,0/RW i2/r0,1,0/RW
BLMPOP -5 blocking,movablekeys,write i2/n0,1,1/RW
BLPOP -3 blocking,noscript,write i1/r-2,1,0/RW
BRPOP -3 blocking,noscript,write i1/r-2,1,0/RW
BRPOPLPUSH 4 blocking,denyoom,noscript,write i1/r0,1,0/RW i2/r0,1,0/RW
BZMPOP -5 blocking,movablekeys,write i2/n0,1,1/RW
BZPOPMAX -3 blocking,fast,noscript,write i1/r-2,1,0/RW
BZPOPMIN -3 blocking,fast,noscript,write i1/r-2,1,0/RW
CLIENT -2 -
CLIENT|CACHING 3 loading,noscript,stale
CLIENT|GETNAME 2 loading,noscript,stale
CLIENT|GETREDIR 2 loading,noscript,stale
CLIENT|HELP 2 loading,stale
CLIENT|ID 2 loading,noscript,stale
CLIENT|INFO 2 loading,noscript,stale
CLIENT|KILL -3 admin,loading,noscript,stale
CLIENT|LIST -2 admin,loading,noscript,stale
CLIENT|NO-EVICT 3 admin,loading,noscript,stale
CLIENT|PAUSE -3 admin,loading,noscript,stale
CLIENT|REPLY 3 loading,noscript,stale
CLIENT|SETNAME 3 loading,noscript,stale
CLIENT|TRACKING -3 loading,noscript,stale
CLIENT|TRACKINGINFO 2 loading,noscript,stale
CLIENT|UNBLOCK -3 admin,loading,noscript,stale
CLIENT|UNPAUSE 2 admin,loading,noscript,stale
CLUSTER -2 -
CLUSTER|ADDSLOTS -3 admin,no_async_loading,stale
CLUSTER|ADDSLOTSRANGE -4 admin,no_async_loading,stale
CLUSTER|BUMPEPOCH 2 admin,no_async_loading,stale
CLUSTER|COUNT-FAILURE-REPORTS 3 admin,stale
CLUSTER|COUNTKEYSINSLOT 3 stale
CLUSTER|DELSLOTS -3 admin,no_async_loading,stale
CLUSTER|DELSLOTSRANGE -4 admin,no_async_loading,stale
CLUSTER|FAILOVER -2 admin,no_async_loading,stale
CLUSTER|FLUSHSLOTS 2 admin,no_async_loading,stale
CLUSTER|FORGET 3 admin,no_async_loading,stale
CLUSTER|GETKEYSINSLOT 4 stale
CLUSTER|HELP 2 loading,stale
CLUSTER|INFO 2 stale
CLUSTER|KEYSLOT 3 stale
CLUSTER|LINKS 2 stale
CLUSTER|MEET -4 admin,no_async_loading,stale
CLUSTER|MYID 2 stale
CLUSTER|NODES 2 stale
CLUSTER|REPLICAS 3 admin,stale
CLUSTER|REPLICATE 3 admin,no_async_loading,stale
CLUSTER|RESET -2 admin,noscript,stale
CLUSTER|SAVECONFIG 2 admin,no_async_loading,stale
CLUSTER|SET-CONFIG-EPOCH 3 admin,no_async_loading,stale
CLUSTER|SETSLOT -4 admin,no_async_loading,stale
CLUSTER|SHARDS 2 stale
CLUSTER|SLAVES 3 admin,stale
CLUSTER|SLOTS 2 stale
COMMAND -1 loading,stale
COMMAND|COUNT 2 loading,stale
COMMAND|DOCS -2 loading,stale
COMMAND|GETKEYS -4 loading,stale
COMMAND|GETKEYSANDFLAGS -4 loading,stale
COMMAND|HELP 2 loading,stale
COMMAND|INFO -2 loading,stale
COMMAND|LIST -2 loading,stale
CONFIG -2 -
CONFIG|GET -3 admin,loading,noscript,stale
CONFIG|HELP 2 loading,stale
CONFIG|RESETSTAT 2 admin,loading,noscript,stale
CONFIG|REWRITE 2 admin,loading,noscript,stale
CONFIG|SET -4 admin,loading,noscript,stale
COPY -3 denyoom,write i1/r0,1,0/RO i2/r0,1,0/OW
DBSIZE 1 fast,readonly
DEBUG -2 admin,loading,noscript,stale
DECR 2 denyoom,fast,write i1/r0,1,0/RW
DECRBY 3 denyoom,fast,write i1/r0,1,0/RW
DEL -2 write i1/r-1,1,0/RM
DISCARD 1 allow_busy,fast,loading,noscript,stale
DUMP 2 readonly i1/r0,1,0/RO
ECHO 2 fast,loading,stale
EVAL -3 movablekeys,no_mandatory_keys,noscript,skip_monitor,stale i2/n0,1,1/RW
EVALSHA -3 movablekeys,no_mandatory_keys,noscript,skip_monitor,stale i2/n0,1,1/RW
EVALSHA_RO -3 movablekeys,no_mandatory_keys,noscript,readonly,skip_monitor,stale i2/n0,1,1/RO
EVAL_RO -3 movablekeys,no_mandatory_keys,noscript,readonly,skip_monitor,stale i2/n0,1,1/RO
EXEC 1 loading,noscript,skip_slowlog,stale
EXISTS -2 fast,readonly i1/r-1,1,0/RO
EXPIRE -3 fast,write i1/r0,1,0/RW
EXPIREAT -3 fast,write i1/r0,1,0/RW
EXPIRETIME 2 fast,readonly i1/r0,1,0/RO
FAILOVER -1 admin,noscript,stale
FCALL -3 movablekeys,no_mandatory_keys,noscript,skip_monitor,stale i2/n0,1,1/RW
FCALL_RO -3 movablekeys,no_mandatory_keys,noscript,readonly,skip_monitor,stale i2/n0,1,1/RO
FLUSHALL -1 write
FLUSHDB -1 write
FUNCTION -2 -
FUNCTION|DELETE 3 noscript,write
FUNCTION|DUMP 2 noscript
FUNCTION|FLUSH -2 noscript,write
FUNCTION|HELP 2 loading,stale
FUNCTION|KILL 2 allow_busy,noscript
FUNCTION|LIST -2 noscript
FUNCTION|LOAD -3 denyoom,noscript,write
FUNCTION|RESTORE -3 denyoom,noscript,write
FUNCTION|STATS 2 allow_busy,noscript
GEOADD -5 denyoom,write i1/r0,1,0/RW
GEODIST -4 readonly i1/r0,1,0/RO
GEOHASH -2 readonly i1/r0,1,0/RO
GEOPOS -2 readonly i1/r0,1,0/RO
GEORADIUS -6 denyoom,movablekeys,write i1/r0,1,0/RO kSTORE,6/r0,1,0/OW kSTOREDIST,6/r0,1,0/OW
GEORADIUSBYMEMBER -5 denyoom,movablekeys,write i1/r0,1,0/RO kSTORE,5/r0,1,0/OW kSTOREDIST,5/r0,1,0/OW
GEORADIUSBYMEMBER_RO -5 readonly i1/r0,1,0/RO
GEORADIUS_RO -6 readonly i1/r0,1,0/RO
GEOSEARCH -7 readonly i1/r0,1,0/RO
GEOSEARCHSTORE -8 denyoom,write i1/r0,1,0/OW i2/r0,1,0/RO
GET 2 fast,readonly i1/r0,1,0/RO
GETBIT 3 fast,readonly i1/r0,1,0/RO
GETDEL 2 fast,write i1/r0,1,0/RW
GETEX -2 fast,write i1/r0,1,0/RW
GETRANGE 4 readonly i1/r0,1,0/RO
GETSET 3 denyoom,fast,write i1/r0,1,0/RW
HDEL -3 fast,write i1/r0,1,0/RW
HELLO -1 allow_busy,fast,loading,no_auth,noscript,stale
HEXISTS 3 fast,readonly i1/r0,1,0/RO
HGET 3 fast,readonly i1/r0,1,0/RO
HGETALL 2 readonly i1/r0,1,0/RO
HINCRBY 4 denyoom,fast,write i1/r0,1,0/RW
HINCRBYFLOAT 4 denyoom,fast,write i1/r0,1,0/RW
HKEYS 2 readonly i1/r0,1,0/RO
HLEN 2 fast,readonly i1/r0,1,0/RO
HMGET -3 fast,readonly i1/r0,1,0/RO
HMSET -4 denyoom,fast,write i1/r0,1,0/RW
HRANDFIELD -2 readonly i1/r0,1,0/RO
HSCAN -3 readonly i1/r0,1,0/RO
HSET -4 denyoom,fast,write i1/r0,1,0/RW
HSETNX 4 denyoom,fast,write i1/r0,1,0/RW
HSTRLEN 3 fast,readonly i1/r0,1,0/RO
HVALS 2 readonly i1/r0,1,0/RO
INCR 2 denyoom,fast,write i1/r0,1,0/RW
INCRBY 3 denyoom,fast,write i1/r0,1,0/RW
INCRBYFLOAT 3 denyoom,fast,write i1/r0,1,0/RW
INFO -1 loading,stale
KEYS 2 readonly
LASTSAVE 1 fast,loading,stale
LATENCY -2 -
LATENCY|DOCTOR 2 admin,loading,noscript,stale
LATENCY|GRAPH 3 admin,loading,noscript,stale
LATENCY|HELP 2 loading,stale
LATENCY|HISTOGRAM -2 admin,loading,noscript,stale
LATENCY|HISTORY 3 admin,loading,noscript,stale
LATENCY|LATEST 2 admin,loading,noscript,stale
LATENCY|RESET -2 admin,loading,noscript,stale
LCS -3 readonly i1/r1,1,0/RO
LINDEX 3 readonly i1/r0,1,0/RO
LINSERT 5 denyoom,write i1/r0,1,0/RW
LLEN 2 fast,readonly i1/r0,1,0/RO
LMOVE 5 denyoom,write i1/r0,1,0/RW i2/r0,1,0/RW
LMPOP -4 movablekeys,write i1/n0,1,1/RW
LOLWUT -1 fast,readonly
LPOP -2 fast,write i1/r0,1,0/RW
LPOS -3 readonly i1/r0,1,0/RO
LPUSH -3 denyoom,fast,write i1/r0,1,0/RW
LPUSHX -3 denyoom,fast,write i1/r0,1,0/RW
LRANGE 4 readonly i1/r0,1,0/RO
LREM 4 write i1/r0,1,0/RW
LSET 4 denyoom,write i1/r0,1,0/RW
LTRIM 4 write i1/r0,1,0/RW
MEMORY -2 -
MEMORY|DOCTOR 2 -
MEMORY|HELP 2 loading,stale
MEMORY|MALLOC-STATS 2 -
MEMORY|PURGE 2 -
MEMORY|STATS 2 -
MEMORY|USAGE -3 readonly i2/r0,1,0/RO
MGET -2 fast,readonly i1/r-1,1,0/RO
MIGRATE -6 movablekeys,write i3/r0,1,0/RW kKEYS,-2/r-1,1,0/RW+
MODULE -2 -
MODULE|HELP 2 loading,stale
MODULE|LIST 2 admin,noscript
MODULE|LOAD -3 admin,no_async_loading,noscript
MODULE|LOADEX -3 admin,no_async_loading,noscript
MODULE|UNLOAD 3 admin,no_async_loading,noscript
MONITOR 1 admin,loading,noscript,stale
MOVE 3 fast,write i1/r0,1,0/RW
MSET -3 denyoom,write i1/r-1,2,0/OW
MSETNX -3 denyoom,write i1/r-1,2,0/OW
MULTI 1 allow_busy,fast,loading,noscript,stale
OBJECT -2 -
OBJECT|ENCODING 3 readonly i2/r0,1,0/RO
OBJECT|FREQ 3 readonly i2/r0,1,0/RO
OBJECT|HELP 2 loading,stale
OBJECT|IDLETIME 3 readonly i2/r0,1,0/RO
OBJECT|REFCOUNT 3 readonly i2/r0,1,0/RO
PERSIST 2 fast,write i1/r0,1,0/RW
PEXPIRE -3 fast,write i1/r0,1,0/RW
PEXPIREAT -3 fast,write i1/r0,1,0/RW
PEXPIRETIME 2 fast,readonly i1/r0,1,0/RO
PFADD -2 denyoom,fast,write i1/r0,1,0/RW
PFCOUNT -2 readonly i1/r-1,1,0/RW
PFDEBUG 3 admin,denyoom,write i2/r0,1,0/RW
PFMERGE -2 denyoom,write i1/r0,1,0/RW i2/r-1,1,0/RO
PFSELFTEST 1 admin
PING -1 fast
PSETEX 4 denyoom,write i1/r0,1,0/OW
PSUBSCRIBE -2 loading,noscript,pubsub,stale
PSYNC -3 admin,no_async_loading,no_multi,noscript
PTTL 2 fast,readonly i1/r0,1,0/RO
PUBLISH 3 fast,loading,pubsub,stale
PUBSUB -2 -
PUBSUB|CHANNELS -2 loading,pubsub,stale
PUBSUB|HELP 2 loading,stale
PUBSUB|NUMPAT 2 loading,pubsub,stale
PUBSUB|NUMSUB -2 loading,pubsub,stale
PUBSUB|SHARDCHANNELS -2 loading,pubsub,stale
PUBSUB|SHARDNUMSUB -2 loading,pubsub,stale
PUNSUBSCRIBE -1 loading,noscript,pubsub,stale
QUIT -1 allow_busy,fast,loading,no_auth,noscript,stale
RANDOMKEY 1 readonly
READONLY 1 fast,loading,stale
READWRITE 1 fast,loading,stale
RENAME 3 write i1/r0,1,0/RW i2/r0,1,0/OW
RENAMENX 3 fast,write i1/r0,1,0/RW i2/r0,1,0/OW
REPLCONF -1 admin,allow_busy,loading,noscript,stale
REPLICAOF 3 admin,no_async_loading,noscript,stale
RESET 1 allow_busy,fast,loading,no_auth,noscript,stale
RESTORE -4 denyoom,write i1/r0,1,0/OW
RESTORE-ASKING -4 asking,denyoom,write i1/r0,1,0/OW
ROLE 1 fast,loading,noscript,stale
RPOP -2 fast,write i1/r0,1,0/RW
RPOPLPUSH 3 denyoom,write i1/r0,1,0/RW i2/r0,1,0/RW
RPUSH -3 denyoom,fast,write i1/r0,1,0/RW
RPUSHX -3 denyoom,fast,write i1/r0,1,0/RW
SADD -3 denyoom,fast,write i1/r0,1,0/RW
SAVE 1 admin,no_async_loading,no_multi,noscript
SCAN -2 readonly
SCARD 2 fast,readonly i1/r0,1,0/RO
SCRIPT -2 -
SCRIPT|DEBUG 3 noscript
SCRIPT|EXISTS -3 noscript
SCRIPT|FLUSH -2 noscript
SCRIPT|HELP 2 loading,stale
SCRIPT|KILL 2 allow_busy,noscript
SCRIPT|LOAD 3 noscript,stale
SDIFF -2 readonly i1/r-1,1,0/RO
SDIFFSTORE -3 denyoom,write i1/r0,1,0/OW i2/r-1,1,0/RO
SELECT 2 fast,loading,stale
SET -3 denyoom,write i1/r0,1,0/RW
SETBIT 4 denyoom,write i1/r0,1,0/RW
SETEX 4 denyoom,write i1/r0,1,0/OW
SETNX 3 denyoom,fast,write i1/r0,1,0/OW
SETRANGE 4 denyoom,write i1/r0,1,0/RW
SHUTDOWN -1 admin,allow_busy,loading,no_multi,noscript,stale
SINTER -2 readonly i1/r-1,1,0/RO
SINTERCARD -3 movablekeys,readonly i1/n0,1,1/RO
SINTERSTORE -3 denyoom,write i1/r0,1,0/RW i2/r-1,1,0/RO
SISMEMBER 3 fast,readonly i1/r0,1,0/RO
SLAVEOF 3 admin,no_async_loading,noscript,stale
SLOWLOG -2 -
SLOWLOG|GET -2 admin,loading,stale
SLOWLOG|HELP 2 loading,stale
SLOWLOG|LEN 2 admin,loading,stale
SLOWLOG|RESET 2 admin,loading,stale
SMEMBERS 2 readonly i1/r0,1,0/RO
SMISMEMBER -3 fast,readonly i1/r0,1,0/RO
SMOVE 4 fast,write i1/r0,1,0/RW i2/r0,1,0/RW
SORT -2 denyoom,movablekeys,write i1/r0,1,0/RO ?/?/RO ?/?/OW
SORT_RO -2 movablekeys,readonly i1/r0,1,0/RO ?/?/RO
SPOP -2 fast,write i1/r0,1,0/RW
SPUBLISH 3 fast,loading,pubsub,stale i1/r0,1,0/RW-
SRANDMEMBER -2 readonly i1/r0,1,0/RO
SREM -3 fast,write i1/r0,1,0/RW
SSCAN -3 readonly i1/r0,1,0/RO
SSUBSCRIBE -2 loading,noscript,pubsub,stale i1/r-1,1,0/RW-
STRLEN 2 fast,readonly i1/r0,1,0/RO
SUBSCRIBE -2 loading,noscript,pubsub,stale
SUBSTR 4 readonly i1/r0,1,0/RO
SUNION -2 readonly i1/r-1,1,0/RO
SUNIONSTORE -3 denyoom,write i1/r0,1,0/OW i2/r-1,1,0/RO
SUNSUBSCRIBE -1 loading,noscript,pubsub,stale i1/r-1,1,0/RW-
SWAPDB 3 fast,write
SYNC 1 admin,no_async_loading,no_multi,noscript
TIME 1 fast,loading,stale
TOUCH -2 fast,readonly i1/r-1,1,0/RO
TTL 2 fast,readonly i1/r0,1,0/RO
TYPE 2 fast,readonly i1/r0,1,0/RO
UNLINK -2 fast,write i1/r-1,1,0/RM
UNSUBSCRIBE -1 loading,noscript,pubsub,stale
UNWATCH 1 allow_busy,fast,loading,noscript,stale
WAIT 3 noscript
WATCH -2 allow_busy,fast,loading,noscript,stale i1/r-1,1,0/RO
XACK -4 fast,write i1/r0,1,0/RW
XADD -5 denyoom,fast,write i1/r0,1,0/RW
XAUTOCLAIM -6 fast,write i1/r0,1,0/RW
XCLAIM -6 fast,write i1/r0,1,0/RW
XDEL -3 fast,write i1/r0,1,0/RW
XGROUP -2 -
XGROUP|CREATE -5 denyoom,write i2/r0,1,0/RW
XGROUP|CREATECONSUMER 5 denyoom,write i2/r0,1,0/RW
XGROUP|DELCONSUMER 5 write i2/r0,1,0/RW
XGROUP|DESTROY 4 write i2/r0,1,0/RW
XGROUP|HELP 2 loading,stale
XGROUP|SETID -5 write i2/r0,1,0/RW
XINFO -2 -
XINFO|CONSUMERS 4 readonly i2/r0,1,0/RO
XINFO|GROUPS 3 readonly i2/r0,1,0/RO
XINFO|HELP 2 loading,stale
XINFO|STREAM -3 readonly i2/r0,1,0/RO
XLEN 2 fast,readonly i1/r0,1,0/RO
XPENDING -3 readonly i1/r0,1,0/RO
XRANGE -4 readonly i1/r0,1,0/RO
XREAD -4 blocking,movablekeys,readonly kSTREAMS,1/r-1,1,2/RO
XREADGROUP -7 blocking,movablekeys,write kSTREAMS,4/r-1,1,2/RO
XREVRANGE -4 readonly i1/r0,1,0/RO
XSETID -3 denyoom,fast,write i1/r0,1,0/RW
XTRIM -4 write i1/r0,1,0/RW
ZADD -4 denyoom,fast,write i1/r0,1,0/RW
ZCARD 2 fast,readonly i1/r0,1,0/RO
ZCOUNT 4 fast,readonly i1/r0,1,0/RO
ZDIFF -3 movablekeys,readonly i1/n0,1,1/RO
ZDIFFSTORE -4 denyoom,movablekeys,write i1/r0,1,0/OW i2/n0,1,1/RO
ZINCRBY 4 denyoom,fast,write i1/r0,1,0/RW
ZINTER -3 movablekeys,readonly i1/n0,1,1/RO
ZINTERCARD -3 movablekeys,readonly i1/n0,1,1/RO
ZINTERSTORE -4 denyoom,movablekeys,write i1/r0,1,0/OW i2/n0,1,1/RO
ZLEXCOUNT 4 fast,readonly i1/r0,1,0/RO
ZMPOP -4 movablekeys,write i1/n0,1,1/RW
ZMSCORE -3 fast,readonly i1/r0,1,0/RO
ZPOPMAX -2 fast,write i1/r0,1,0/RW
ZPOPMIN -2 fast,write i1/r0,1,0/RW
ZRANDMEMBER -2 readonly i1/r0,1,0/RO
ZRANGE -4 readonly i1/r0,1,0/RO
ZRANGEBYLEX -4 readonly i1/r0,1,0/RO
ZRANGEBYSCORE -4 readonly i1/r0,1,0/RO
ZRANGESTORE -5 denyoom,write i1/r0,1,0/OW i2/r0,1,0/RO
ZRANK 3 fast,readonly i1/r0,1,0/RO
ZREM -3 fast,write i1/r0,1,0/RW
ZREMRANGEBYLEX 4 write i1/r0,1,0/RW
ZREMRANGEBYRANK 4 write i1/r0,1,0/RW
ZREMRANGEBYSCORE 4 write i1/r0,1,0/RW
ZREVRANGE -4 readonly i1/r0,1,0/RO
ZREVRANGEBYLEX -4 readonly i1/r0,1,0/RO
ZREVRANGEBYSCORE -4 readonly i1/r0,1,0/RO
ZREVRANK 3 fast,readonly i1/r0,1,0/RO
ZSCAN -3 readonly i1/r0,1,0/RO
ZSCORE 3 fast,readonly i1/r0,1,0/RO
ZUNION -3 movablekeys,readonly i1/n0,1,1/RO
ZUNIONSTORE -4 denyoom,movablekeys,write i1/r0,1,0/OW i2/n0,1,1/RO
`;
