from ravesvc.commands import command

@command("greet", "Greets the user who asks.")
async def greet(context):
    await context.reply(f"Hello, {await context.display_name()}!")
