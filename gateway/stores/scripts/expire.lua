-- said: {}. At most 2 owners, 5 forgotten owners and 50 looked-at buckets a call.
local lost = guard()
if lost then return lost end

local function settle(entity)
  local names = names_of(entity)
  load_buckets(names)
  load_outs(entity, names)
  for _, name in ipairs(names) do
    local b, o = bucket(name), out_of(entity, name)
    local amount = b and has(o) or 0
    if amount > 0 then
      write_off(b, o, amount)
      b.freer = true
    end
    set_open(o, 0)
  end
  return #names > 0
end

local names, settled = {}, false
for _, entity in ipairs(redis.call('ZRANGEBYSCORE', LEASE, '-inf', '(' .. text(now), 'LIMIT', 0, 2)) do
  settled = true
  local had = settle(entity)
  local _, record = meet(owner_of(entity), tonumber(string.match(entity, '@(%d+)$')))
  record[2] = 1
  keep(entity, record)
  redis.call('ZREM', LEASE, entity)
  redis.call('HDEL', OWNER, entity .. '\ntell')
  redis.call('ZADD', ENDED, text(now + 100 * 86400000), entity)
  if had then names[#names + 1] = owner_of(entity) end
end
save()

-- Owners that ended long ago, and buckets that say no more than a new one would.
local forgot = false
for _, entity in ipairs(redis.call('ZRANGEBYSCORE', ENDED, '-inf', text(now), 'LIMIT', 0, 5)) do
  if not redis.call('ZSCORE', LEASE, entity) then
    for _, name in ipairs(names_of(entity)) do
      redis.call('HDEL', OUT, out_key(entity, name))
      redis.call('ZREM', HAS, out_key(entity, name))
    end
    forget_replies(entity)
    redis.call('HDEL', OWNER, entity)
  end
  redis.call('ZREM', ENDED, entity)
  forgot = true
end

local from = redis.call('HGET', META, 'looked_at') or ''
local looked = redis.call('ZRANGEBYLEX', NAMES, from == '' and '-' or '(' .. from, '+', 'LIMIT', 0, 50)
local KEPT = {[MONEY] = 100 * 86400000, [RATE] = 3600000, [SLOTS] = 3600000}
for i, packed in ipairs(many(BUCKET, looked)) do
  local b, name = packed and unpack_of(packed), looked[i]
  if b and b[GIVEN_OUT] == 0 and (b[TOUCHED] or 0) < now - (KEPT[b[KIND]] or b[WINDOW] * 2) then
    renew(name, b)
    if is_money(b) or b[TOTAL] == most_of(b[KIND], b[LIMIT], b[BURST]) then
      redis.call('HDEL', BUCKET, name)
      redis.call('HDEL', TICKET, name)
      redis.call('ZREM', NAMES, name)
      if b[KIND] == MONEY then
        for _, key in ipairs({POSTED, CHARGED, ENTERED}) do redis.call('HDEL', key, name) end
      end
      forgot = true
    end
  end
end
if from ~= '' or #looked == 50 then redis.call('HSET', META, 'looked_at', #looked == 50 and looked[50] or '') end
return finish(names, settled or forgot)
