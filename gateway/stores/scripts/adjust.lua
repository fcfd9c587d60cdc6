-- said: bucket, amount, id, audit (JSON).
local lost = guard()
if lost then return lost end

local done = redis.call('HEXISTS', REPLY, 'adjust\n' .. said.id) == 1
load_buckets({said.bucket})
local b = buckets[said.bucket]
if not b then return {'KEY', said.bucket} end
if not done then
  local account = adjust(said.bucket, b, said.amount)
  b.freer = said.amount > 0
  save()
  redis.call('HSET', REPLY, 'adjust\n' .. said.id, text(said.amount))
  redis.call('XADD', ENTRIES, 'MAXLEN', '~', 100000, '*', 'time_ms', text(now), 'account', account, 'kind',
    'adjust', 'amount', text(said.amount), 'who', said.who, 'note', said.audit)
  if said.amount > 0 then redis.call('PUBLISH', WET, said.bucket) end
end
return finish(balance(said.bucket), not done)
