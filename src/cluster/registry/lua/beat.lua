-- Tells that a node lives. Returns the incarnation that is registered under its name, '0' for none;
-- only if it is the caller's has anything been written.
-- KEYS: record of the node. ARGV: incarnation, connections, status.
local registered = redis.call('HGET', KEYS[1], 'incarnation') or '0'
if registered == ARGV[1] then
    local time = redis.call('TIME')
    redis.call('HSET', KEYS[1], 'connections', ARGV[2], 'status', ARGV[3],
        'beat_ms', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
end
return registered
