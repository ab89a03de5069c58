use proptest::prelude::*;

use super::*;
use crate::boot::testing::volumes;

/// What grub-mkconfig of Debian 12 writes, shortened: same commands, same quoting.
const DEBIAN: &str = r#"
### BEGIN /etc/grub.d/00_header ###
if [ -s $prefix/grubenv ]; then
  set have_grubenv=true
  load_env
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="DEFAULT"
fi
if [ x"${feature_menuentry_id}" = xy ]; then
  menuentry_id_option="--id"
else
  menuentry_id_option=""
fi
export menuentry_id_option
function savedefault {
  if [ -z "${boot_once}" ]; then
    saved_entry="${chosen}"
    save_env saved_entry
  fi
}
if [ x$feature_default_font_path = xy ] ; then
   font=unicode
else
insmod part_gpt
    font="/usr/share/grub/unicode.pf2"
fi
if loadfont $font ; then
  set gfxmode=auto
fi
terminal_output gfxterm
if [ "${recordfail}" = 1 ] ; then set timeout=30; else
  if [ x$feature_timeout_style = xy ] ; then
    set timeout_style=menu
    set timeout=5
  fi
fi
function gfxmode {
	set gfxpayload="${1}"
}
### BEGIN /etc/grub.d/10_linux ###
menuentry 'Debian GNU/Linux' --class debian --class gnu-linux $menuentry_id_option 'gnulinux-simple-uuid' {
	load_video
	insmod gzio
	if [ x$grub_platform = xxen ]; then insmod xzio; insmod lzopio; fi
	if [ x$feature_platform_search_hint = xy ]; then
	  search --no-floppy --fs-uuid --set=root --hint-bios=hd0,gpt1 10000000-0000-0000-0000-000000000000
	else
	  search --no-floppy --fs-uuid --set=root 10000000-0000-0000-0000-000000000000
	fi
	echo	'Loading Linux 6.1.0-40-cloud-amd64 ...'
	linux	/boot/vmlinuz-6.1.0-40-cloud-amd64 root=PARTUUID=x ro  console=tty0 console=ttyS0,115200 x="a b"
	echo	'Loading initial ramdisk ...'
	initrd	/boot/early.cpio /boot/initrd.img-6.1.0-40-cloud-amd64
}
submenu 'Advanced options for Debian GNU/Linux' $menuentry_id_option 'gnulinux-advanced-uuid' {
	menuentry 'Debian GNU/Linux, with Linux 6.1.0-40' --class debian $menuentry_id_option 'gnulinux-6.1.0-40-advanced-uuid' {
		linux	/boot/vmlinuz-6.1.0-40-cloud-amd64 root=PARTUUID=x ro
	}
	menuentry 'Debian GNU/Linux, with Linux 6.1.0-39' --class debian $menuentry_id_option 'gnulinux-6.1.0-39-advanced-uuid' {
		linux	/boot/vmlinuz-6.1.0-39-cloud-amd64 root=PARTUUID=x ro old
	}
}
if [ -f  ${config_directory}/custom.cfg ]; then
  source ${config_directory}/custom.cfg
fi
"#;

fn chosen(default: &str, environment: &str) -> Choice {
    let config = DEBIAN.replace("DEFAULT", default);
    let files = [("/grub/grub.cfg", config.as_str()), ("/grub/grubenv", environment)];
    choose(&volumes(&[&files, &[]]), Some(1)).unwrap().unwrap()
}

#[test]
fn the_default_entry_is_booted_from_the_file_system_it_searches_for() {
    let choice = chosen("0", "# GRUB Environment Block\n####");
    assert_eq!(choice.kernel, Place { volume: 1, path: "/boot/vmlinuz-6.1.0-40-cloud-amd64".to_owned() });
    let initrds: Vec<_> = choice.initrds.iter().map(|place| (place.volume, place.path.as_str())).collect();
    assert_eq!(initrds, [(1, "/boot/early.cpio"), (1, "/boot/initrd.img-6.1.0-40-cloud-amd64")]);
    assert_eq!(choice.cmdline, "root=PARTUUID=x ro console=tty0 console=ttyS0,115200 \"x=a b\"");
}

#[test]
fn saved_entries_and_submenus_are_followed() {
    let saved = "saved_entry=gnulinux-advanced-uuid>gnulinux-6.1.0-39-advanced-uuid\n##########";
    for (default, environment) in [
        ("${saved_entry}", saved),
        ("1>1", "####"),
        ("Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux 6.1.0-39", "####"),
        ("0", "next_entry=1>1\n"),
    ] {
        let choice = chosen(default, environment);
        assert_eq!(choice.cmdline, "root=PARTUUID=x ro old", "{default} {environment}");
    }
    // What is not there falls back to the first.
    assert_eq!(chosen("${saved_entry}", "saved_entry=gone").initrds.len(), 2);
}

#[test]
fn stubs_lead_to_the_configuration_proper_and_devices_are_known() {
    let stub = "search.fs_uuid 10000000-0000-0000-0000-000000000000 root hd0,gpt1\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n";
    let real = "set root='hd0,msdos2'\nmenuentry a { linux (hd0,2)/vmlinuz root=/dev/sda1; initrd /i }\n";
    let volumes = volumes(&[&[("/grub/grub.cfg", stub)], &[("/boot/grub/grub.cfg", real)]]);
    let choice = choose(&volumes, Some(0)).unwrap().unwrap();
    assert_eq!((choice.kernel.volume, choice.kernel.path.as_str()), (1, "/vmlinuz"));
    assert_eq!(choice.initrds[0], Place { volume: 1, path: "/i".to_owned() });
}

#[test]
fn fedoras_entries_are_found_by_blscfg() {
    let config = "load_env\nset default=\"${saved_entry}\"\ninsmod blscfg\nblscfg\n";
    let environment = "saved_entry=m-6.9\nkernelopts=root=UUID=r ro\n";
    let entry =
        "linux /vmlinuz-6.9\ninitrd /initramfs-6.9.img $tuned_initrd\noptions $kernelopts $tuned_params\n";
    let newer = "linux /vmlinuz-6.10\n";
    let files = [
        ("/grub2/grub.cfg", config),
        ("/grub2/grubenv", environment),
        ("/loader/entries/m-6.9.conf", entry),
        ("/loader/entries/m-6.10.conf", newer),
        ("/vmlinuz-6.9", ""),
        ("/initramfs-6.9.img", ""),
    ];
    let choice = choose(&volumes(&[&files]), None).unwrap().unwrap();
    assert_eq!((choice.rule, choice.kernel.path.as_str()), (Rule::Bls, "/vmlinuz-6.9"));
    assert_eq!(choice.cmdline, "root=UUID=r ro");
    assert_eq!(choice.initrds[0].path, "/initramfs-6.9.img");
}

#[test]
fn scripts_that_never_end_or_grow_without_bounds_end() {
    let itself = "source $prefix/grub.cfg\n".repeat(10);
    let grows = format!("a=xxxxxxxx\n{}menuentry $a {{ linux /k $a }}", "a=\"$a$a\"\n".repeat(100));
    let many = "menuentry a { x }\n".repeat(20_000);
    for text in [itself, grows, many] {
        let _ = choose(&volumes(&[&[("/grub/grub.cfg", &text)]]), None).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn nothing_in_a_script_panics(text in r#"((if |then|else|fi|menuentry |submenu |set |linux |\[ |\]|\{|\}|;|"|'|\$|\\|[a-z=]{1,3}| |\n){0,60})"#) {
        let _ = boots(&volumes(&[&[]]), 0, "/grub", &text);
    }
}
