-- KEYS: lease, at, states, alarms, moments, counts, untold, told, done.
-- ARGV: token; at and told ("": as they are); alarms kept; then how many states, alarms, forgotten streams and
-- answered orders there are, and these: (name, state), (id, moment, series, body), (name), (id, answer).
-- Whoever does not lead any more changes nothing: false. Else the ids of alarms that are new.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
local here = 9
local function taken()
  here = here + 1
  return ARGV[here - 1]
end
for _ = 1, tonumber(ARGV[5]) do
  local name, state = taken(), taken()
  redis.call('HSET', KEYS[3], name, state)
end
local new = {}
for _ = 1, tonumber(ARGV[6]) do
  local id, moment, series, body = taken(), taken(), taken(), taken()
  if redis.call('HSETNX', KEYS[4], id, body) == 1 then
    redis.call('ZADD', KEYS[5], moment, id)
    redis.call('HINCRBY', KEYS[6], series, 1)
    redis.call('SADD', KEYS[7], id)
    new[#new + 1] = id
  end
end
for _ = 1, tonumber(ARGV[7]) do redis.call('HDEL', KEYS[3], taken()) end
for _ = 1, tonumber(ARGV[8]) do
  local id, answer = taken(), taken()
  redis.call('HSET', KEYS[9], id, answer)
  redis.call('EXPIRE', KEYS[9], 600)
end
local most = tonumber(ARGV[4])
local many = redis.call('ZCARD', KEYS[5])
if many > most then
  for _, id in ipairs(redis.call('ZRANGE', KEYS[5], 0, many - most - 1)) do
    redis.call('HDEL', KEYS[4], id)
    redis.call('SREM', KEYS[7], id)
  end
  redis.call('ZREMRANGEBYRANK', KEYS[5], 0, many - most - 1)
end
if ARGV[2] ~= '' then redis.call('SET', KEYS[2], ARGV[2]) end
if ARGV[3] ~= '' then redis.call('SET', KEYS[8], ARGV[3]) end
return new
