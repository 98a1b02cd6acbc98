-- Makes a node a member and returns its incarnation.
-- KEYS: record of the node, its graves.
-- ARGV: least incarnation, address, port, connections, version, status, grace in milliseconds, id of the node,
-- what its process drew.
-- The incarnation is at least Redis's time in milliseconds, so above those that are forgotten as well, and
-- above that of every predecessor that is not. And the predecessor that
-- still had the record is buried: what it registered is swept like that of any dead node. With a grace its
-- grave is leased to the new incarnation for that long, which registers the same users first.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local incarnation = math.max(tonumber(ARGV[1]), now)
local predecessor = redis.call('HGET', KEYS[1], 'incarnation')
if predecessor then incarnation = math.max(incarnation, (tonumber(predecessor) or 0) + 1) end
for _, buried in ipairs(redis.call('HKEYS', KEYS[2])) do
    incarnation = math.max(incarnation, (tonumber(buried) or 0) + 1)
end
local text = string.format('%.0f', incarnation)
if predecessor then
    local lease = '0'
    if tonumber(ARGV[7]) > 0 then
        lease = string.format('%.0f %s %s', now + tonumber(ARGV[7]), text, ARGV[8])
    end
    redis.call('HSETNX', KEYS[2], predecessor, lease)
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'incarnation', text, 'address', ARGV[2], 'port', ARGV[3],
    'connections', ARGV[4], 'version', ARGV[5], 'status', ARGV[6], 'beat_ms', string.format('%.0f', now),
    'process', ARGV[9])
return text
