-- Makes a node a member and returns its incarnation.
-- KEYS: record of the node, its graves.
-- ARGV: least incarnation, address, port, connections, version, status.
-- The incarnation is above that of every predecessor that is not forgotten, and the predecessor that
-- still had the record is buried: what it registered is swept like that of any dead node.
local incarnation = tonumber(ARGV[1])
local predecessor = redis.call('HGET', KEYS[1], 'incarnation')
if predecessor then redis.call('HSETNX', KEYS[2], predecessor, '0') end
for _, buried in ipairs(redis.call('HKEYS', KEYS[2])) do
    incarnation = math.max(incarnation, tonumber(buried) + 1)
end
local text = string.format('%.0f', incarnation)
local time = redis.call('TIME')
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'incarnation', text, 'address', ARGV[2], 'port', ARGV[3],
    'connections', ARGV[4], 'version', ARGV[5], 'status', ARGV[6],
    'beat_ms', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
return text
