from ravesvc.commands import command

@command("greet", "Greets whoever asks.")
async def greet(context):
    await context.reply(f"Hello, {await context.display_name()}!")
