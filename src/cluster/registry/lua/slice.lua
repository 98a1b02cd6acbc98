-- Renews the lease of a grave and returns some of the users it is to be swept of. When there are none left
-- the grave is closed. Returns false if the grave is gone or leased to another.
-- KEYS: graves of the node, users of the dead incarnation.
-- ARGV: incarnation, lease in milliseconds, claimant, how many users.
local lease = redis.call('HGET', KEYS[1], ARGV[1])
if not lease or string.match(lease, '^%d+ (.*)$') ~= ARGV[3] then return false end
local users = redis.pcall('SRANDMEMBER', KEYS[2], ARGV[4])
if users.err then users = {} end
if #users == 0 then
    redis.call('HDEL', KEYS[1], ARGV[1])
else
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f %s', now + tonumber(ARGV[2]), ARGV[3]))
end
return users
