-- said: owner, epoch, used [[account, name, sum]], holds [[account, name, amount]], rows.
local lost = guard()
if lost then return lost end

local entity, record = meet(said.owner, said.epoch)
if record[2] == 2 then return finish({}) end

local names, seen = names_of(entity), {}
for _, name in ipairs(names) do seen[name] = true end
for _, list in ipairs({said.used, said.holds}) do
  for _, use in ipairs(list) do
    if not seen[use[2]] then names[#names + 1], seen[use[2]] = use[2], true end
  end
end
load_buckets(names)
load_outs(entity, names)
if record[2] == 1 then revive(entity, names) end

local posted, charges = {}, {}
local function book(account, name, sum)
  local amount
  if bucket(name) then
    amount = book_used(entity, account, name, sum)
  elseif string.match(name, '|[^|]+$') then
    -- A bucket of money that no terms are known of (the store was rebuilt): it will be made with this spent.
    amount = max(0, sum - used_of(entity, account, name))
    redis.call('HINCRBY', POSTED, account, text(amount))
    if account == name then
      local o = out_of(entity, name)
      o[O_USED], o.dirty = o[O_USED] + amount, true
    else
      redis.call('HSET', PART, entity .. '\n' .. account, text(sum))
    end
  else
    amount = 0
  end
  if amount > 0 then posted[account] = (posted[account] or 0) + amount end
end
for _, use in ipairs(said.used) do book(use[1], use[2], use[3]) end
for _, hold in ipairs(said.holds) do book(hold[1], hold[2], used_of(entity, hold[1], hold[2]) + hold[3]) end
add_rows(said.rows, charges)
for account, amount in pairs(posted) do
  if string.match(account, '|[^|]+$') then charges[account] = (charges[account] or 0) - amount end
end
for account, amount in pairs(charges) do enter(account, 'crash', -amount, entity, 'what its rows do not explain') end

for _, name in ipairs(names) do
  local b, o = bucket(name), out_of(entity, name)
  if b then
    if b[ASKED][entity] then b[ASKED][entity], b.dirty = nil, true end
    set_held(o, 0)
    set_open(o, 0)
    if has(o) > 0 then
      change(b, o, O_RETURNED, o[O_RETURNED] + has(o))
      b.freer = true
    end
  end
end
save()
forget_replies(entity)
redis.call('ZREM', LEASE, entity)
redis.call('HDEL', OWNER, entity .. '\ntell')
redis.call('ZADD', ENDED, text(now + 7 * 86400000), entity)
record[2] = 2
keep(entity, record)
local result = {}
for account, amount in pairs(posted) do result[#result + 1] = {account, amount} end
return finish(result, true)
