-- said: count. Settles at most `count` buckets of one owner whose lease ran out, forgets as many of one that is
-- over, and looks at some buckets and accounts. Answers with the owner that is settled, '' if there is more to do
-- at once, nothing at the end.
local DAY_MS = 86400000
local lost = guard()
if lost then return lost end

local more, wrote, settled = false, false, nil
local entity = redis.call('ZRANGEBYSCORE', LEASE, '-inf', '(' .. text(now), 'LIMIT', 0, 1)[1]
if entity then
  local _, owner = meet(owner_of(entity), tonumber(string.match(entity, '@(%d+)$')))
  if lose(entity, owner, said.count) then settled = owner_of(entity) end
  more, wrote = true, true
end

-- Owners that ended long ago.
local function forget(key, other)
  local fields = redis.call('ZRANGEBYLEX', key, '[' .. entity .. '\n', '[' .. entity .. '\n\255', 'LIMIT', 0, said.count)
  if #fields > 0 then
    redis.call('HDEL', other, unpack(fields))
    redis.call('ZREM', key, unpack(fields))
  end
  return #fields == said.count
end

entity = not more and redis.call('ZRANGEBYSCORE', ENDED, '-inf', '(' .. text(now), 'LIMIT', 0, 1)[1]
if entity then
  local name = owner_of(entity)
  if not name then
    -- How far a name was forgotten: nothing of that age comes any more.
    local known = redis.call('HMGET', OWNER, entity, entity .. '\nnewest')
    if known[1] == known[2] then redis.call('HDEL', OWNER, entity, entity .. '\nnewest') end
    redis.call('ZREM', ENDED, entity)
  else
    local names = names_of(entity, '', said.count)
    load_buckets(names)
    load_outs(entity, names)
    for _, each in ipairs(names) do
      local b = buckets[each]
      if b then
        local o = out_of(entity, each)
        let_go(b, o, o[O_OUT])
        b[OPEN][entity], b[WAITS][entity] = nil, nil
      end
    end
    save()
    local has_more = forget(HAS, OUT)
    if not forget(HAS_PART, PART) and not has_more then
      local epoch_of, last = string.match(entity, '@(%d+)$'), redis.call('HGET', OWNER, name)
      forget_decisions(entity)
      redis.call('HDEL', REPLY, entity, entity .. '\nrows')
      redis.call('HDEL', OWNER, entity)
      forget_untold(entity)
      redis.call('ZREM', ENDED, entity)
      if not last or tonumber(last) < tonumber(epoch_of) then redis.call('HSET', OWNER, name, epoch_of) end
      redis.call('ZADD', ENDED, text(now + 100 * DAY_MS), name)
    end
  end
  more, wrote = true, true
end

-- Buckets that say no more than a new one would, and accounts of slices that left their window long ago.
if not more then
  redis.call('ZREMRANGEBYSCORE', ASKING, '-inf', text(now - LEASE_MS))
  local at = redis.call('HMGET', META, 'looked_at', 'account_at')
  local from = at[1] or ''
  local looked = redis.call('ZRANGEBYLEX', NAMES, from == '' and '-' or '(' .. from, '+', 'LIMIT', 0, 50)
  local KEPT = {[MONEY] = 100 * DAY_MS, [RATE] = 3600000, [SLOTS] = 3600000}
  local old = {}
  for i, packed in ipairs(many(BUCKET, looked)) do
    local b, name = packed and unpack_of(packed), looked[i]
    if b and b[IS_OUT] == 0 and b[TOUCHED] < now - (KEPT[b[KIND]] or b[WINDOW] * 2) then old[#old + 1] = name end
  end
  load_buckets(old)
  for _, name in ipairs(old) do
    local b = buckets[name]
    if b[KIND] == MONEY or (next(b[PARTS]) == nil and b[TOTAL] == most_of(b[KIND], b[LIMIT], b[BURST])) then
      buckets[name] = nil
      redis.call('HDEL', BUCKET, name)
      redis.call('HDEL', TICKET, name)
      redis.call('ZREM', NAMES, name)
      if b[KIND] == MONEY then
        for _, key in ipairs({POSTED, CHARGED, ENTERED}) do redis.call('HDEL', key, name) end
      end
      wrote = true
    end
  end
  save()
  local scan = redis.call('HSCAN', POSTED, at[2] or '0', 'COUNT', 50)
  for i = 1, #scan[2], 2 do
    local account = scan[2][i]
    local part, terms = string.match(account, '#(%d+)$'), terms_of(rule_of(account))
    if part and terms and terms[1] == ROLLING and (tonumber(part) / SLICES + 2) * terms[4] < now - 100 * DAY_MS then
      for _, key in ipairs({POSTED, CHARGED, ENTERED}) do redis.call('HDEL', key, account) end
      wrote = true
    end
  end
  local days = redis.call('ZRANGEBYSCORE', DAYS, '-inf', text(floor(now / DAY_MS) - 400), 'LIMIT', 0, 50)
  if #days > 0 then redis.call('ZREM', DAYS, unpack(days)) end
  redis.call('HSET', META, 'looked_at', #looked == 50 and looked[50] or '', 'account_at', scan[1])
end
return finish(more and {settled or ''} or {}, wrote)
