-- Ends the membership of an incarnation and leases its grave to the caller. Returns whether it was a member.
-- KEYS: record of the node, its graves. ARGV: incarnation, lease in milliseconds, claimant.
if redis.call('HGET', KEYS[1], 'incarnation') ~= ARGV[1] then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f %s', now + tonumber(ARGV[2]), ARGV[3]))
return 1
