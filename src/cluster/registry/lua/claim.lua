-- Buries a node whose last beat is too long ago, and leases one of its graves to the caller.
-- KEYS: record of the node, its graves. ARGV: expiry in milliseconds, lease in milliseconds, claimant.
-- A grave is an incarnation and, as text, until when it is leased and to whom. Returns the incarnation
-- leased; 0 if there is nothing to do; 1 if there is neither a record nor a grave. What no node can have
-- written is nobody's node and nobody's grave, and no reason to fail: all nodes would, at every beat.
local function is_incarnation(text) return string.match(text, '^%d+$') and #text <= 16 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local node = redis.pcall('HMGET', KEYS[1], 'incarnation', 'beat_ms')
local graves = redis.pcall('HGETALL', KEYS[2])
if node.err or graves.err then return 0 end
local is_alive = node[1] and now - (tonumber(node[2] or '') or 0) <= tonumber(ARGV[1])
if node[1] and not is_alive then
    redis.call('DEL', KEYS[1])
    if is_incarnation(node[1]) then
        redis.call('HSETNX', KEYS[2], node[1], '0')
        graves = redis.call('HGETALL', KEYS[2])
    end
end
for i = 1, #graves, 2 do
    local leased_until = tonumber(string.match(graves[i + 1], '^%d+')) or 0
    if is_incarnation(graves[i]) and leased_until <= now then
        redis.call('HSET', KEYS[2], graves[i], string.format('%.0f %s', now + tonumber(ARGV[2]), ARGV[3]))
        return graves[i]
    end
end
return (is_alive or #graves > 0) and 0 or 1
