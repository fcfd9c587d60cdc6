-- said: owner, epoch, got [[name, amount]].
local lost = guard()
if lost then return lost end

local entity, record = meet(said.owner, said.epoch)
if record[2] == 2 then return finish(0) end
local got, names = {}, names_of(entity)
for _, g in ipairs(said.got) do got[g[1]] = g[2] end
load_buckets(names)
load_outs(entity, names)
if record[2] == 1 then
  revive(entity, names)
  record[2] = 0
end
local took_back = false
for _, name in ipairs(names) do
  local b, o = bucket(name), out_of(entity, name)
  if b and o[O_GIVEN] > (got[name] or 0) then
    change(b, o, O_GIVEN, got[name] or 0)
    b.freer, took_back = true, true
  end
end
if took_back and record[1] > 0 then
  forget_replies(entity)
  record[1] = record[1] - 1
end
save()
keep(entity, record)
renew_lease(entity)
return finish(0, true)
